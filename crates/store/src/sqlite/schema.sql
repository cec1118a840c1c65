-- One row: what the store knows about itself.
CREATE TABLE mds_meta (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    store_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    -- The greatest revision ever written, in the same transaction as its record.
    last_revision INTEGER NOT NULL DEFAULT 0,
    probes INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE tenants (
    tenant_id TEXT PRIMARY KEY NOT NULL,
    created_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE mds_series (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    symbol TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    vendor TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    bucket_micros INTEGER NOT NULL CHECK (bucket_micros > 0),
    UNIQUE (symbol, kind, tenant_id, vendor, timeframe)
) STRICT;

CREATE TABLE mds_extents (
    series_id INTEGER NOT NULL,
    extent INTEGER NOT NULL,
    PRIMARY KEY (series_id, extent)
) STRICT, WITHOUT ROWID;

-- The places of the buckets in an extent, for joins.
CREATE TABLE mds_slots (slot INTEGER PRIMARY KEY) STRICT;

-- Always empty: a probe of the store writes here and takes it back.
CREATE TABLE mds_probe (filler BLOB) STRICT;

-- Which revisions the rows of a file took when its content was read last; times in microseconds.
CREATE TABLE ingested_files (
    content_hash TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- Hashes of the options that are part of the records' keys, and of those that say how to read.
    keys TEXT NOT NULL,
    reading TEXT NOT NULL,
    base_revision INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    path TEXT,
    PRIMARY KEY (content_hash, kind, keys)
) STRICT, WITHOUT ROWID;

CREATE TABLE bars_data (
    bucket INTEGER NOT NULL,
    series_id INTEGER NOT NULL,
    ts INTEGER NOT NULL,
    open_price REAL,
    high_price REAL,
    low_price REAL,
    close_price REAL,
    volume REAL,
    provisional INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (bucket, series_id, ts)
) STRICT, WITHOUT ROWID;

CREATE TABLE options_snap_data (
    bucket INTEGER NOT NULL,
    series_id INTEGER NOT NULL,
    ts INTEGER NOT NULL,
    expiry INTEGER NOT NULL,
    option_type TEXT NOT NULL,
    strike REAL NOT NULL,
    iv REAL,
    delta REAL,
    gamma REAL,
    oi REAL,
    volume REAL,
    spot REAL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (bucket, series_id, ts, expiry, option_type, strike)
) STRICT, WITHOUT ROWID;

CREATE TABLE fundamentals_data (
    bucket INTEGER NOT NULL,
    series_id INTEGER NOT NULL,
    asof INTEGER NOT NULL,
    period TEXT NOT NULL,
    total_assets REAL,
    total_liabilities REAL,
    net_income REAL,
    eps REAL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (bucket, series_id, asof, period)
) STRICT, WITHOUT ROWID;

CREATE TABLE news_data (
    bucket INTEGER NOT NULL,
    series_id INTEGER NOT NULL,
    published_at INTEGER NOT NULL,
    id TEXT NOT NULL,
    symbol TEXT,
    symbols TEXT,
    title TEXT,
    url TEXT,
    sentiment_score REAL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (bucket, series_id, published_at, id)
) STRICT, WITHOUT ROWID;
