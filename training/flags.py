"""How the programs that train and export read their command lines."""

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


class Flags(BaseSettings):
    """A command line: frozen, closed to unknown flags, each field's docstring its help."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read no environment variables: a run is its flags, on every machine."""
        return (init_settings,)
