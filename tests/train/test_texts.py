import numpy as np
import pytest

from datamodels.errors import SpecError
from datamodels.train.texts import IGNORED, Text, counts, language_dataset

WORDS = Text([5, 6, 7, 8], "The cat sat down", [(0, 3), (4, 7), (8, 11), (12, 16)])


def test_the_pool_predicts_every_next_token_and_a_target_those_of_its_part():
    data = language_dataset([Text([1, 2, 3]), WORDS], [(WORDS, 2, 4), (WORDS, 1, 2)], blank=9)
    assert data.x.tolist() == [[1, 2, 3, 9], [5, 6, 7, 8]]
    assert data.y.tolist() == [[2, 3, IGNORED, IGNORED], [6, 7, 8, IGNORED]]
    assert data.x_test.tolist() == [[5, 6, 7, 8]] * 2
    assert data.y_test.tolist() == [[IGNORED, 7, 8, IGNORED], [6, IGNORED, IGNORED, IGNORED]]
    assert [str(span) for span in data.spans("test")] == ["The cat [[sat down]]", "The [[cat]] sat down"]
    assert [str(span) for span in data.spans("both")][1:] == ["The [[cat]] sat down", "1 2 3", "The cat sat down"]
    assert data.spans("train") == () and data.blank_token == 9


def test_parts_of_texts_of_the_pool_are_left_out_if_told_so():
    other, alike = Text([5, 6, 9]), Text([5, 6, 7, 8], "another text of the same tokens", [(0, 1)] * 4)
    pool, targets = [other, WORDS], [(Text([1, 2]), 1, 2), (WORDS, 1, 3), (alike, 2, 4)]
    assert language_dataset(pool, targets).targets("test").own.tolist() == [-1, -1, -1]
    data = language_dataset(pool, targets, leave_out=True)
    assert data.targets("test").own.tolist() == [-1, 1, 1]
    assert data.targets("both").own.tolist() == [-1, 1, 1, 0, 1]
    with pytest.raises(SpecError, match="leave_out: no target is a part of a text of the pool"):
        language_dataset([other], targets, leave_out=True)


def test_tokens_and_letters_find_each_other():
    assert WORDS.tokens_of(5, 9) == (1, 3) and WORDS.letters_of(1, 3) == (4, 11)
    numbered = Text([10, 2, 300])
    assert (numbered.text, numbered.letters_of(2, 3)) == ("10 2 300", (5, 8))
    with pytest.raises(SpecError, match="no token of the text 'The cat sat down' has its letters 3 to 4"):
        WORDS.tokens_of(3, 4)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: Text([1]), "has 1 token: needs two"),
        (lambda: Text([1, -2]), "has the token -2"),
        (lambda: Text([1, 2], "ab", [(0, 1)]), "2 tokens and 1 offsets"),
        (lambda: Text([1, 2], "ab", [(1, 2), (0, 1)]), "letters of it, which has 2, in their order"),
        (lambda: Text([1, 2], "ab", [(0, 1), (1, 3)]), "letters of it, which has 2, in their order"),
        (
            lambda: language_dataset([WORDS], [(WORDS, 0, 2)]),
            "target 0 is the tokens 0 <= token < 2 of a text of 4",
        ),
        (lambda: language_dataset([WORDS], [(WORDS, 1, 5)]), "tokens 1 <= token < 5 of a text of 4"),
        (lambda: language_dataset([WORDS], [(WORDS, 1, 2)], length=3), "has 4 tokens: at most 3, the length; cut it"),
    ],
)
def test_texts_and_parts_that_do_not_fit_are_refused(make, fault):
    with pytest.raises(SpecError, match=fault):
        make()


def test_counts_of_tokens_are_features():
    x = np.array([[3, 3, 0], [4, 0, 1027]])
    found = counts(x)
    assert found.sum() == 4 and (found[0, 3], found[1, 4], found[1, 3]) == (2, 1, 1)
    fields = np.zeros(2, dtype=[("input_ids", int, (3,)), ("attention_mask", int, (3,))])
    fields["input_ids"] = x
    np.testing.assert_array_equal(counts(fields), found)


def test_special_tokens_are_no_letters():
    """A tokenizer of Hugging Face gives them the offset (0, 0)."""
    text = Text([1, 2, 3, 4], "hello world", [(0, 0), (0, 5), (6, 11), (0, 0)])
    parts = [(text, 1, 4), (text, 2, 4), (text, 3, 4), (text, 1, 2)]
    assert language_dataset([text], parts).spans_test == [(0, 11), (6, 11), (11, 11), (0, 5)]
