import dataclasses

import numpy as np
import pytest
from datamodels.services.query.service import QueryService, service

from datamodels.errors import InputError, MaskError, NotReadyError, RunNotFoundError, TargetRangeError
from datamodels.outputs import LOSS, MARGIN
from datamodels.query.weights import WeightStore
from datamodels.rpc import codec
from datamodels.rpc.client import connect
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.serve import Server
from datamodels.run import designs, runs
from datamodels.settings import ClientSettings, ServeSettings
from datamodels.storage.local import LocalStore
from datamodels.testing import fitted as made
from datamodels.v1 import query_pb2, query_pb2_grpc


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Yield (client, run, theta) of a query service on a real socket."""
    store, run, theta = made.make_store(tmp_path_factory.mktemp("store"))
    runs.create(store, made.make_run(name="raw"))
    with (
        Server(ServeSettings(), [service(WeightStore(store))]) as server,
        QueryClient(server.address, ClientSettings()) as client,
    ):
        yield client, run, theta, server.address


def stub(address):
    return query_pb2_grpc.QueryServiceStub(connect(address, ClientSettings(attempts=1)))


def test_a_run_is_described(served):
    client, run, _, _ = served
    found = client.run(run.name)
    assert (found.run, found.spec_hash, found.fits) == (run.name, run.spec.hash, 1)
    assert (found.columns, found.targets, found.models, found.alpha) == (made.D, made.N, 100, 0.5)


def test_what_outputs_mean_travels_with_answers_and_may_be_declared_anew(tmp_path):
    store, run = LocalStore(tmp_path), made.make_run(n=24)
    theta = made.make_theta(run)
    runs.create(store, run)
    made.commit_fit(store, run, theta)
    with (
        Server(ServeSettings(), [service(WeightStore(store, refresh=0))]) as server,
        QueryClient(server.address, ClientSettings()) as client,
    ):
        assert [*client.run(run.name).label_names] == ["a", "b", "c", "d"] and not client.run(run.name).output_declared
        before, against = client.top(run.name, 5, 3), client.conflicts(run.name).found
        assert codec.from_output(before.provenance.output) == MARGIN and before.helpful[0].weight == theta[5].max()
        with pytest.raises(InputError, match="'loss' has no threshold"):
            runs.create(store, dataclasses.replace(run, declared=LOSS))
            list(client.supports(run.name, [5]))
        after = client.top(run.name, 5, 3)
        assert codec.from_output(after.provenance.output) == LOSS == codec.from_output(client.run(run.name).output)
        assert client.run(run.name).output_declared
        assert after.helpful[0].weight == theta[5].min() and after.helpful[:] == before.harmful[:]
        (found,) = client.supports(run.name, [5], threshold=10.0, limit=60)
        assert found.curve[-1] > found.curve[0] and (theta[5, found.columns] < 0).all()
        opposite = client.conflicts(run.name).found
        assert (against.effect < 0).all() and (opposite.effect > 0).all() and opposite.pairs == against.pairs
        assert len(against.effect) + len(opposite.effect) == against.pairs


def test_a_threshold_of_an_old_client_is_heeded(served):
    client, run, _, address = served
    (new,) = client.supports(run.name, [5], threshold=4.0)
    targets = codec.to_tensor(np.array([5], dtype=np.int32))
    (old,) = stub(address).Support(query_pb2.SupportRequest(run=run.name, targets=targets, threshold=4.0))
    curve = codec.from_tensor(old.curve, "curve", dtypes=codec.DTYPES, shape=(None,))
    assert new.status == old.status and new.curve.tolist() == curve.tolist()


def test_runs_and_targets_are_listed_page_by_page(served):
    client, run, theta, _ = served
    assert [r.run for r in client.runs(page_size=1)] == sorted([run.name, made.make_run(name="raw").name])
    targets = list(client.targets(run.name, page_size=4))
    assert [t.target for t in targets] == list(range(made.N))
    assert [t.nonzeros for t in targets] == (theta != 0).sum(axis=1).tolist()
    assert all(t.status == "ok" and t.own_example == -1 and t.gap > 0 for t in targets)
    assert [t.label for t in targets] == run.target_labels.tolist()


def test_weights_are_streamed_whole_or_in_part(served):
    client, run, theta, _ = served
    for _ in range(2):  # the second answer is made from pieces of the first
        dense = np.zeros_like(theta)
        for row in client.weights(run.name):
            dense[row.target, row.columns] = row.weights
            assert (row.intercept, row.lambda_) == (row.target, pytest.approx(0.1 + 0.1 * row.target / (made.N - 1)))
        np.testing.assert_array_equal(dense, theta)
    (row,) = client.weights(run.name, [5], top_k=3)
    np.testing.assert_array_equal(row.columns, np.argsort(-np.abs(theta[5]))[:3])


def test_predictions_name_the_fit_that_they_come_from(served):
    client, run, theta, _ = served
    masks = designs.subsets(run.design, 0, 4)
    expected = designs.unpack(masks, made.D) @ theta.T.astype(float) + np.arange(made.N)
    answer = client.predict(run.name, masks)
    np.testing.assert_allclose(answer.predictions, expected, rtol=1e-4, atol=1e-5)
    assert (answer.provenance.run, answer.provenance.spec_hash) == (run.name, run.spec.hash)
    assert (answer.provenance.fit, answer.provenance.manifest_version, answer.provenance.alpha) == (0, 4, 0.5)
    assert answer.gap.tolist() == [1e-6] * made.N and answer.lambda_[0] == pytest.approx(0.1)

    columns = np.flatnonzero(designs.unpack(masks[2], made.D))
    by_columns = client.predict_columns(run.name, columns, [4, 0])
    np.testing.assert_allclose(by_columns.predictions[0], expected[2, [4, 0]], rtol=1e-4, atol=1e-5)
    assert by_columns.targets.tolist() == [4, 0]


def test_more_predictions_than_fit_one_response(served):
    client, run, theta, _ = served
    masks = np.tile(designs.subsets(run.design, 0, 1000), (120, 1))
    found = client.predict(run.name, masks)
    assert found.predictions.shape == (120_000, made.N)
    expected = designs.unpack(masks[777:778], made.D) @ theta.T.astype(float) + np.arange(made.N)
    np.testing.assert_allclose(found.predictions[[777, 119_777]], expected.repeat(2, axis=0), rtol=1e-4, atol=1e-5)


def test_top_influences_have_labels(served):
    client, run, theta, _ = served
    answer = client.top(run.name, 2, k=3)
    assert [i.column for i in answer.helpful] == np.argsort(-theta[2])[:3].tolist()
    assert [i.column for i in answer.harmful] == np.argsort(theta[2])[:3].tolist()
    assert all(i.label == run.labels[i.column] for i in (*answer.helpful, *answer.harmful))
    assert answer.target.target == 2 and len(client.top(run.name, 2).helpful) <= 10


def test_weights_say_how_much_of_them_was_measured(served, tmp_path):
    assert not served[0].top(served[1].name, 2).helpful[0].HasField("measured"), "there is no prior"
    assert all(row.measured is None for row in served[0].weights(served[1].name))
    store, run, theta = LocalStore(tmp_path), made.make_run(), made.make_theta(made.make_run())
    part = np.where(np.arange(made.D) % 2, 0.25, -2).astype(np.float32)
    runs.create(store, run)
    made.commit_fit(store, run, theta, measured=theta * part)
    for rows in WeightStore(store).fitted(run.name).chunks(np.arange(made.N), 0, size=20):
        np.testing.assert_array_equal(rows.measured, part[rows.columns])
    with (
        Server(ServeSettings(), [service(WeightStore(store))]) as server,
        QueryClient(server.address, ClientSettings()) as client,
    ):
        answer = client.top(run.name, 2, k=3)
        assert len(answer.helpful) == len(answer.harmful) == 3
        assert all(i.measured == pytest.approx(i.weight * part[i.column]) for i in (*answer.helpful, *answer.harmful))
        for row in (*client.weights(run.name), *client.weights(run.name, [2], top_k=4)):
            np.testing.assert_allclose(row.measured, row.weights * part[row.columns], rtol=1e-6)
        for leak in client.leakage(run.name).leaks:
            assert leak.measured == pytest.approx(leak.weight * part[leak.column])


@pytest.mark.parametrize(
    "ask, error",
    [
        (lambda c, run: c.run("nope"), RunNotFoundError),
        (lambda c, run: list(c.targets("nope")), RunNotFoundError),
        (lambda c, run: list(c.weights("nope")), RunNotFoundError),
        (lambda c, run: c.top(made.make_run(name="raw").name, 0), NotReadyError),
        (lambda c, run: c.top(run, made.N), TargetRangeError),
        (lambda c, run: list(c.weights(run, [made.N])), TargetRangeError),
        (lambda c, run: list(c.weights(run, [1], top_k=-1)), InputError),
        (lambda c, run: c.predict(run, np.zeros((1, 2), np.uint8)), MaskError),
        (lambda c, run: c.predict_columns(run, [made.D]), MaskError),
        (lambda c, run: c.predict_columns(run, [1], [-1]), TargetRangeError),
        (lambda c, run: c.predict(run, np.zeros((1, 8), np.int32)), InputError),
        (lambda c, run: list(c.supports(run, [made.N])), TargetRangeError),
        (lambda c, run: list(c.supports(run, limit=made.D + 1)), InputError),
        (lambda c, run: list(c.supports("nope")), RunNotFoundError),
        (lambda c, run: c.counterfactual(run, [1]), InputError),
        (lambda c, run: c.similar(run), InputError),
        (lambda c, run: c.similar(run, target=0, k=-1), InputError),
        (lambda c, run: c.similar(run, target=0, metric="x"), InputError),
        (lambda c, run: c.leakage(run, k=1001), InputError),
        (lambda c, run: c.similar(run, target=made.N), TargetRangeError),
        (lambda c, run: c.similar(run, column=made.D), MaskError),
        (lambda c, run: c.counterfactual(run, [1], remove=[made.D]), MaskError),
        (lambda c, run: c.counterfactual(run, [made.N], remove=[1]), TargetRangeError),
    ],
)
def test_bad_arguments_raise_the_errors_of_the_service(served, ask, error):
    client, run, _, _ = served
    with pytest.raises(error):
        ask(client, run.name)


@pytest.mark.parametrize(("asked", "dtype"), [({}, "float32"), ({"double_precision": True}, "float64")])
def test_predictions_have_the_precision_that_the_caller_takes(served, asked, dtype):
    """Callers of earlier versions, such as drivers that work during an upgrade, know float32 only."""
    columns = codec.to_tensor(np.arange(2, dtype=np.int32))
    request = query_pb2.PredictRequest(run=served[1].name, columns=columns, **asked)
    answer = stub(served[3]).Predict(request)
    assert codec.from_tensor(answer.predictions, "predictions", dtypes=(dtype,), shape=(1, None)).size == made.N


def test_a_prediction_needs_a_subset(served):
    with pytest.raises(InputError, match="give masks or columns"):
        stub(served[3]).Predict(query_pb2.PredictRequest(run=served[1].name))


def test_all_pages_are_about_the_fit_of_the_first(tmp_path):
    store, run, theta = made.make_store(tmp_path)
    servicer = QueryService(WeightStore(store, refresh=0))
    first = servicer.ListTargets(query_pb2.ListTargetsRequest(run=run.name, page_size=5), None)
    made.commit_fit(store, run, theta * 0, digest="d1")
    rest = servicer.ListTargets(
        query_pb2.ListTargetsRequest(run=run.name, page_size=5, page_token=first.next_page_token), None
    )
    assert first.provenance.fit == rest.provenance.fit == 0
    assert [t.target for t in (*first.targets, *rest.targets)] == list(range(made.N))


def test_supports_are_streamed_target_by_target(served):
    client, run, theta, _ = served
    found = list(client.supports(run.name, limit=made.D, safety=0.25))
    assert [s.target for s in found] == list(range(made.N))
    for s in found:
        kept = np.ones(made.D, dtype=bool)
        kept[s.columns] = False
        assert s.curve[-1] == pytest.approx(theta[s.target] @ kept + s.target, abs=1e-4)
        assert (s.status == "found") == (s.curve[0] >= 0 and s.curve[-1] < -0.25)
    assert {"found", "wrong"} <= {s.status for s in found}
    assert (found[0].provenance.models, found[0].provenance.partial) == (100, False)


def test_a_counterfactual_is_the_difference_of_two_predictions(served):
    client, run, theta, _ = served
    found = client.counterfactual(run.name, [4, 0], base=range(30), remove=[3, 9], add=[40])
    changed = sorted({*range(30), 40} - {3, 9})
    before, after = (client.predict_columns(run.name, columns, [4, 0]) for columns in (range(30), changed))
    np.testing.assert_allclose(found.before, before.predictions[0], atol=1e-4)
    np.testing.assert_allclose(found.after, after.predictions[0], atol=1e-4)
    assert found.targets.tolist() == [4, 0] and found.change_interval.shape == (2, 2)
    whole = client.counterfactual(run.name, remove=[3])
    np.testing.assert_allclose(whole.change, -theta[:, 3], atol=1e-5)


def test_the_most_similar_come_first_with_their_labels(served):
    client, run, theta, _ = served
    for kind, vectors, labels in (("target", theta, run.target_labels), ("column", theta.T, run.labels)):
        lengths = np.linalg.norm(vectors, axis=1)
        scores = vectors @ vectors[3] / np.maximum(lengths * lengths[3], 1e-9)
        scores[(lengths == 0) | (np.arange(len(vectors)) == 3)] = -2
        found = client.similar(run.name, k=4, **{kind: 3}).neighbours
        assert [f.index for f in found] == np.argsort(-scores, kind="stable")[:4].tolist()
        assert [f.label for f in found] == [labels[f.index] for f in found]
        np.testing.assert_allclose([f.score for f in found], np.sort(scores)[::-1][:4], rtol=1e-5)


def test_leaks_are_ranked_by_their_share_of_positive_weights(served):
    client, run, theta, _ = served
    found = client.leakage(run.name, k=5)
    assert found.provenance.run == run.name and len(found.leaks) == 5
    best = found.leaks[0]
    share = np.maximum(theta, 0) / np.maximum(np.maximum(theta, 0).sum(axis=1, keepdims=True), 1e-9)
    assert (best.target, best.column) == np.unravel_index(share.argmax(), share.shape)
    assert (best.share, best.weight) == pytest.approx((share.max(), theta[best.target, best.column]), rel=1e-5)
    assert (best.label, best.target_label) == (run.labels[best.column], run.target_labels[best.target])
    assert len(client.leakage(run.name).leaks) == 10


def test_a_support_by_relabelling_names_the_label(served):
    client, run, _, _ = served
    found = {s.target: s for s in client.supports(run.name, mislabel=True)}
    assert {s.label for s in found.values()} <= set(range(4)) and found[3].label != run.target_labels[3]
    assert all(s.label is None for s in client.supports(run.name))
