from service.faces.actions import ACTIONS
from service.faces.outcomes import OUTCOMES
from service.heads import Head, KnownHeads

HEAD = b"POST /v1/actions HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n"


def head(content_type: bytes = b"") -> Head:
    return Head(ACTIONS, (), [(b"host", b"a")], b"", content_type)


def test_a_head_is_known_once_its_parse_found_the_body_behind_it() -> None:
    heads = KnownHeads()
    assert heads.find(HEAD + b"abcd") is None
    learnt = head()
    heads.learn(HEAD + b"abcd", learnt, b"abcd")
    found = heads.find(HEAD + b"wxyz")
    assert found is not None
    assert (found[0] is learnt, found[1]) == (True, b"wxyz")


def test_what_is_not_one_whole_request_is_left_to_the_parser() -> None:
    heads = KnownHeads()
    heads.learn(HEAD + b"abcd", head(), b"abcd")
    for data in (HEAD + b"abc", HEAD + b"abcde", HEAD, HEAD[:-1], b"", b"\r\n\r\n", b"xx" + HEAD):
        assert heads.find(data) is None


def test_a_parse_that_found_another_body_teaches_nothing() -> None:
    heads = KnownHeads()
    # A line ended by LF alone may end the head where a strict search does not see it.
    sly = b"POST /v1/actions HTTP/1.1\ncontent-length: 9\n\nab\r\n\r\ncdefg"
    heads.learn(sly, head(), b"ab\r\n\r\ncde")
    assert heads.find(sly) is None
    pipelined = HEAD + b"abcd" + HEAD + b"abcd"
    heads.learn(pipelined, head(), b"abcd")
    assert heads.find(pipelined) is None
    heads.learn(b"\r\n\r\n" + HEAD + b"abcd", head(), b"abcd")
    assert heads.find(b"\r\n\r\n") is None


def test_heads_differ_by_every_byte() -> None:
    heads = KnownHeads()
    heads.learn(HEAD + b"abcd", head(), b"abcd")
    other = HEAD.replace(b"actions", b"outcomes")
    heads.learn(other + b"abcd", Head(OUTCOMES, (), [], b"", b""), b"abcd")
    routes = [
        found[0].route
        for found in (heads.find(HEAD + b"abcd"), heads.find(other + b"abcd"))
        if found
    ]
    assert routes == [ACTIONS, OUTCOMES]
    assert heads.find(HEAD.replace(b"host: a", b"host: b") + b"abcd") is None


def test_the_oldest_make_room_and_long_ones_are_not_kept() -> None:
    heads = KnownHeads()
    several = [HEAD.replace(b"host: a", b"host: %d" % number) for number in range(4097)]
    for each in several:
        heads.learn(each + b"abcd", head(), b"abcd")
    assert heads.find(several[0] + b"abcd") is None
    assert heads.find(several[1] + b"abcd") is not None
    long = HEAD.replace(b"host: a", b"host: " + b"a" * 3000)
    heads.learn(long + b"abcd", head(), b"abcd")
    assert heads.find(long + b"abcd") is None
