"""The generated message classes say what caffe.proto says."""

import re
from pathlib import Path

import pytest
from caffe.proto import caffe_pb2
from google.protobuf.descriptor import FieldDescriptor

TEXT = (Path(caffe_pb2.__file__).parent / "caffe.proto").read_text()
LABELS = {"optional": 1, "required": 2, "repeated": 3}
FIELD = re.compile(r"(optional|required|repeated) (\w+) (\w+) = (\d+)(?: \[(.*)\])?;")


def declared():
    """(message path, label, type, field, number, options) of every field in the text."""
    path = []
    for line in TEXT.splitlines():
        line = line.split("//")[0].strip()
        if opened := re.match(r"(message|enum) (\w+) {", line):
            path.append(opened[2])
        elif line == "}":
            path.pop()
        elif field := FIELD.match(line):
            yield (tuple(path), *field.groups())


def descriptor(path):
    found = caffe_pb2.DESCRIPTOR.message_types_by_name[path[0]]
    for name in path[1:]:
        found = found.nested_types_by_name[name]
    return found


def test_every_field_of_the_text_is_in_the_classes_and_the_other_way_round():
    fields = list(declared())
    assert len(fields) > 400
    for path, label, kind, name, number, options in fields:
        field = descriptor(path).fields_by_name[name]
        assert field.number == int(number)
        repeated = getattr(field, "is_repeated", None)
        repeated = field.label == FieldDescriptor.LABEL_REPEATED if repeated is None else repeated
        assert repeated == (label == "repeated")
        if field.message_type is not None:
            assert field.message_type.name == kind
        elif field.enum_type is not None:
            assert field.enum_type.name == kind
        else:
            assert field.type == getattr(FieldDescriptor, f"TYPE_{kind.upper()}")
        default = re.search(r"default = ([^,]+)", options or "")
        assert field.has_default_value == bool(default)
        if default and field.enum_type is not None:
            assert field.enum_type.values_by_name[default[1]].number == field.default_value
        elif default and kind == "float":
            assert field.default_value == pytest.approx(float(default[1]))
        assert field.GetOptions().packed == ("packed = true" in (options or ""))
    in_text = {(path, name) for path, _, _, name, _, _ in fields}
    for message in caffe_pb2.DESCRIPTOR.message_types_by_name.values():
        for field in message.fields:
            assert ((message.name,), field.name) in in_text
