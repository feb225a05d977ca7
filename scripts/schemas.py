"""Write the JSON Schemas of the configuration files, for editors, from the models that read them.

python scripts/schemas.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from watcher.config.installation_file import InstallationFile  # noqa: E402
from watcher.config.rule_pack_file import RulePackFile  # noqa: E402

FILES: dict[str, type[BaseModel]] = {
    "schemas/rules.schema.json": RulePackFile,
    "schemas/watcher.schema.json": InstallationFile,
}


class _WithoutNull(GenerateJsonSchema):
    """An optional key is left out, never empty."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default") in (None, ""):
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model as JSON Schema draft 7, which is what editors read."""
    found = model.model_json_schema(ref_template="#/definitions/{model}", schema_generator=_WithoutNull)
    found["definitions"] = found.pop("$defs")
    return {"$schema": "http://json-schema.org/draft-07/schema#", **_plain(found)}


def _plain(node: Any) -> Any:
    """Drop what pydantic adds for programs: a title made of each key's name, a keyword of OpenAPI."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _plain(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "discriminator" and "oneOf" in node)
    }


def text(model: type[BaseModel]) -> str:
    """Return the schema as it stands in its file."""
    return json.dumps(schema(model), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every schema."""
    for name, model in FILES.items():
        (ROOT / name).write_text(text(model), encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
