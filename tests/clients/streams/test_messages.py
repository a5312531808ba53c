"""Texts and ids are read from messages."""

import pytest

from newsdesk.clients.streams.messages import Content, Message, MessageForm, Unreadable

AT = "in/0/7"


def message(content: Content, key: bytes | None = None) -> Message:
    return Message(AT, key, content)


@pytest.mark.parametrize(
    ("form", "content", "text"),
    [
        (MessageForm(), b"Rates rise", b"Rates rise"),
        (MessageForm(), b'{"text": "not read"}', b'{"text": "not read"}'),
        (MessageForm(), {"text": b"Rates rise", "more": b"x"}, b"Rates rise"),
        (MessageForm(("body",)), b'{"body": "Rates \\u00e9"}', "Rates é"),
        (MessageForm(("title", "body")), b'{"title": "Rates", "body": "rise"}', b"Rates rise"),
        (MessageForm(("title", "body")), {"title": b"Rates", "body": b"rise"}, b"Rates rise"),
        (MessageForm(id_field="number"), b'{"text": "Rates", "number": 3}', "Rates"),
    ],
)
def test_a_text_is_a_value_or_its_fields(form: MessageForm, content: Content, text: str | bytes) -> None:
    assert form.text(message(content)) == text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no value"),
        (b"Rates rise", "no JSON"),
        pytest.param(b"[" * 100_000, "no JSON", id="nested"),
        (b"[1]", "of type list, expected an object"),
        (b'{"title": "x"}', "no field 'text'"),
        (b'{"text": 3}', "'text' is of type int"),
        ({"title": b"x"}, "no field 'text'"),
    ],
)
def test_a_message_without_a_text_says_why(content: Content, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        MessageForm(("text",)).text(message(content))


def test_an_id_is_the_field_or_the_key_or_the_place() -> None:
    form = MessageForm(id_field="number")
    assert form.id(message(b'{"number": 3}', b"key")) == "3"
    assert form.id(message({"number": b"n3"}, b"key")) == "n3"
    assert form.id(message(b"no JSON", b"key")) == "key"
    assert MessageForm().id(message(b"text", b"key\xff")) == "key\ufffd"
    assert MessageForm().id(message(None)) == AT
