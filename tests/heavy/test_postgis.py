"""Maps: an extension whose own tables hold rows of the user's, and types and indexes that only it knows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.reports import report

DBNAME = "maps"
INSTALLED = sorted(Path("/usr/share/postgresql").glob("*/extension/postgis.control"))
MAPS = """
    CREATE ROLE cartographer;
    CREATE EXTENSION postgis; CREATE EXTENSION postgis_topology;
    CREATE EXTENSION fuzzystrmatch; CREATE EXTENSION postgis_tiger_geocoder;
    INSERT INTO spatial_ref_sys (srid, auth_name, auth_srid, srtext, proj4text)
        VALUES (990001, 'ours', 990001, 'LOCAL_CS["ours"]', '+proj=longlat +datum=WGS84 +no_defs');
    CREATE SCHEMA maps AUTHORIZATION cartographer;
    GRANT USAGE ON SCHEMA topology TO cartographer;
    CREATE TABLE maps.places (
        id serial PRIMARY KEY, name text, at geometry(Point, 4326) NOT NULL, here geography(Point),
        local geometry(Polygon, 990001), height geometry(PointZM), box box2d, CHECK (ST_X(at) < 181));
    INSERT INTO maps.places (name, at, here, local, height, box)
        SELECT 'place ' || n, ST_SetSRID(ST_MakePoint(n % 180, n % 90), 4326), ST_MakePoint(n % 180, n % 90),
               ST_SetSRID(ST_MakeEnvelope(n, n, n + 1, n + 2), 990001), ST_MakePoint(n, n, n, n),
               ST_MakeBox2D(ST_Point(n, n), ST_Point(n + 1, n + 1))
        FROM generate_series(1, 500) n;
    CREATE INDEX ON maps.places USING gist (at);
    CREATE INDEX ON maps.places USING gist (height gist_geometry_ops_nd);
    CREATE INDEX ON maps.places USING spgist (at);
    CREATE INDEX ON maps.places USING brin (local);
    CREATE INDEX ON maps.places (ST_GeoHash(at));
    CREATE TABLE maps.regions (id int, area geometry GENERATED ALWAYS AS (ST_Buffer(middle, 2)) STORED,
                               middle geometry) PARTITION BY RANGE (id);
    CREATE TABLE maps.regions_1 PARTITION OF maps.regions FOR VALUES FROM (0) TO (100);
    INSERT INTO maps.regions (id, middle) SELECT n, ST_Point(n, n) FROM generate_series(1, 50) n;
    CREATE MATERIALIZED VIEW maps.hull AS SELECT ST_ConvexHull(ST_Collect(at)) AS hull FROM maps.places;
    CREATE TABLE maps.systems (srid int REFERENCES spatial_ref_sys, note text);
    INSERT INTO maps.systems VALUES (990001, 'ours'), (4326, 'the world''s');
    CREATE VIEW maps.near AS SELECT name FROM maps.places WHERE at && ST_MakeEnvelope(0, 0, 9, 9, 4326);
    SELECT topology.CreateTopology('network', 990001);
    SELECT topology.TopoGeo_AddPoint('network', ST_SetSRID(ST_MakePoint(1, 2), 990001));
    ALTER TABLE maps.places OWNER TO cartographer;
    GRANT REFERENCES ON spatial_ref_sys TO cartographer;
    ALTER TABLE maps.systems OWNER TO cartographer;
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """The system's PostgreSQL, of the major that PostGIS is installed for."""
    assert INSTALLED, "apt-get install postgresql-postgis"
    major = int(INSTALLED[-1].parent.parent.name)
    server = start_postgres(major, Path(f"/usr/lib/postgresql/{major}/bin"))
    yield server
    server.stop()


@pytest.fixture
def maps(server: PostgresServer) -> str:
    server.execute(f"CREATE DATABASE {DBNAME}")
    server.execute(MAPS, DBNAME)
    return server.conninfo(DBNAME)


@pytest.mark.usefixtures("prefect")
def test_maps_are_verified_with_the_rows_that_the_extensions_own_tables_hold(
    maps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans.toml"))
    verify = {"secret_key": "ops", "proof": "content", "schedule": "never"}
    plan = PlanOnDisk.for_database(tmp_path, maps, verify=verify)
    assert plan.back_up() == plan.verify()
    found = report(plan)
    assert (found["verdict"], found["findings"]) == ("verified", [])
    restored = {(line["schema_name"], line["table"]): line["restored"] for line in found["tables"]}
    assert (restored["maps", "places"], restored["maps", "systems"]) == (500, 2)
    assert restored["public", "spatial_ref_sys"] == 1  # of thousands: the others come with the extension
    assert restored["topology", "topology"] == restored["network", "node"] == 1
