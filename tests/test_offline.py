"""The tests themselves: no connection leaves the machine, the small world is accepted."""

import socket
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from realm.models.trunk import load_trunk, locate_trunk, max_positions, read_tokenizer


def test_connections_that_leave_the_machine_fail_the_test() -> None:
    with socket.socket() as client:
        with pytest.raises(pytest.fail.Exception, match="offline"):
            client.connect(("192.0.2.1", 80))
        with pytest.raises(pytest.fail.Exception, match="offline"):
            client.connect_ex(("192.0.2.1", 80))
    with pytest.raises(pytest.fail.Exception, match="offline"):
        socket.getaddrinfo("example.org", 80)


def test_connections_within_the_machine_are_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = ("localhost", server.getsockname()[1])
        with socket.create_connection(address, timeout=5) as client:
            assert client.getpeername() == server.getsockname()


def test_the_small_trunk_is_a_trunk(trunk_folder: Path, tokenizer: Tokenizer) -> None:
    assert locate_trunk(str(trunk_folder)) == trunk_folder
    assert max_positions(trunk_folder) == 128
    assert read_tokenizer(trunk_folder).to_str() == tokenizer.to_str()
    words = load_trunk(trunk_folder, dropout=0.0).get_input_embeddings().weight  # type: ignore[operator]
    assert words.shape == (tokenizer.get_vocab_size(), 32)


def test_the_small_tokenizer_spells_what_it_does_not_know(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("Lomvar zebra!", add_special_tokens=False).tokens
    assert tokens == ["lomvar", "z", "##e", "##b", "##r", "##a", "!"]
