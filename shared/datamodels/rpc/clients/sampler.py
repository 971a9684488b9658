"""Call the sampler."""

from __future__ import annotations

import dataclasses

import grpc
import numpy as np

from datamodels.errors import UnavailableError
from datamodels.rpc import codec, run_codec
from datamodels.rpc.clients.base import Client
from datamodels.run.designs import Design
from datamodels.settings import ClientSettings
from datamodels.v1 import sampler_pb2, sampler_pb2_grpc


@dataclasses.dataclass(frozen=True, eq=False)
class DesignDescription:
    """Properties of a design.

    columns     d, the length of a mask
    size        number of columns in each subset, including pinned ones
    mask_bytes  size of one packed mask
    inclusion   float32[d]; probability that a subset contains each column
    summary     one sentence that describes the design
    """

    columns: int
    size: int
    mask_bytes: int
    inclusion: np.ndarray
    summary: str


class SamplerClient(Client):
    """Draws subsets and describes designs."""

    def __init__(self, to: str | grpc.Channel, settings: ClientSettings | None = None):
        super().__init__(to, settings)
        self._stub = sampler_pb2_grpc.SamplerServiceStub(self._channel)

    def subsets(self, design: Design, first: int, last: int) -> np.ndarray:
        """Return the packed masks of the subsets first <= index < last, uint8[last - first, mask_bytes].

        See `designs.pack` for the packing. Raises InputError if the service refuses the design or the range, and
        UnavailableError if it does not answer, or answers incompletely, in `settings.attempts` tries.
        """
        return self._repeat(lambda: self._subsets(design, first, last))

    def _subsets(self, design: Design, first: int, last: int) -> np.ndarray:
        request = sampler_pb2.GetSubsetsRequest(design=run_codec.to_design(design), first=first, last=last)
        parts = []
        reached = first
        for response in self._stub.GetSubsets(request, timeout=self._settings.deadline):
            part = codec.from_tensor(response.masks, "masks", dtypes=("uint8",), shape=(None, design.mask_bytes))
            if response.first != reached:
                raise UnavailableError(f"the sampler sent subset {response.first} where {reached} was due; call again")
            parts.append(part)
            reached += len(part)
        if reached != last:
            raise UnavailableError(f"the sampler sent {reached - first} of {last - first} subsets; call again")
        return np.concatenate(parts)

    def describe(self, design: Design) -> DesignDescription:
        """Describe a design. Raises InputError if the service refuses it."""
        response = self._stub.DescribeDesign(sampler_pb2.DescribeDesignRequest(design=run_codec.to_design(design)))
        return DesignDescription(
            columns=response.columns,
            size=response.size,
            mask_bytes=response.mask_bytes,
            inclusion=codec.from_tensor(response.inclusion, "inclusion", dtypes=("float32",), shape=(design.columns,)),
            summary=response.summary,
        )
