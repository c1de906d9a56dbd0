"""What a plan says of a container that holds PostgreSQL's client programs."""

from typing import Literal

from prefect.blocks.core import Block
from pydantic import Field, field_validator

from blocks.container_programs import SHARED, ContainerPrograms, our_account, shared_directory
from blocks.container_runtime import ask_image, ensure_image, find_runtime
from blocks.containers import Mount, image_of
from blocks.errors import ProgramTooOld


class DockerPostgresClient(Block):
    """
    pg_dump and pg_dumpall of a container image, run by Docker or podman on this host.

    For a host that cannot install the programs of the server's major. They connect from the host's own
    network, as the user that runs the backup; the daemon neither sees nor keeps what they write.

    Example:
        Look whether an image's programs can dump a server of PostgreSQL 17:
        ```python
        from blocks.docker_client import DockerPostgresClient

        programs, warning = DockerPostgresClient.load("BLOCK_NAME").find(17)
        ```
    """

    _block_type_name = "Docker PostgreSQL Client"
    _block_type_slug = "docker-postgres-client"
    _documentation_url = "https://docs.docker.com/engine/install/"  # type: ignore[assignment]

    kind: Literal["docker"] = Field(default="docker", description="Tells this client from others.")
    image: str = Field(
        default="postgres:{major}",
        description="An image that holds pg_dump and pg_dumpall; {major} is the server's major version.",
    )
    program: str = Field(default="docker", description="What runs containers: docker, podman, or a path.")
    network: str = Field(
        default="host", description="The container's network; the database must have the same address there."
    )
    memory: str = Field(
        default="",
        pattern=r"^([1-9][0-9]*[bkmg]?)?$",
        description="The most memory that a container may use, such as 512m; no limit if empty.",
    )

    @field_validator("image", "program", "network")
    @classmethod
    def _one_word(cls, value: str) -> str:
        if not value or value.startswith("-") or any(character.isspace() for character in value):
            raise ValueError("write one word that does not begin with a dash")
        return value

    def find(self, server_major: int) -> tuple[ContainerPrograms, str]:
        """Return the programs for a server, and a warning that is empty if nothing is odd about them.

        An image that is not here is pulled.

        Raises:
            ProgramMissing: No Docker, no image, or no programs in it.
            ProgramTooOld: They are older than the server.
            ProgramFailed: Containers cannot be run here.
        """
        runtime, image = find_runtime(self.program), image_of(self.image, server_major)
        ensure_image(runtime, image)
        with shared_directory() as directory:
            mounts = (Mount(directory, SHARED),)
            version, major = ask_image(runtime, image, "pg_dump", our_account(), mounts)
            ask_image(runtime, image, "pg_dumpall", our_account(), mounts)
        if major < server_major:
            raise ProgramTooOld(
                f"pg_dump of the image {image} is {version}, the server needs {server_major} or newer",
                f"choose an image of PostgreSQL {server_major}, such as postgres:{server_major}",
            )
        warning = (
            f"pg_dump {version} of the image {image} is newer than the server: only pg_restore {major} or"
            f" newer reads what it writes, and PostgreSQL {server_major} may not take it back cleanly"
        )
        programs = ContainerPrograms(image, version, major, runtime, self.network, self.memory)
        return programs, warning if major > server_major else ""
