-- Tables and views, version 1. The natural key of each table is its primary key, the time first:
-- records come in the order of time, and then land on few pages of the index. Texts of a key are
-- compared bytewise, as everywhere else, and not by the language of the database: that is quicker,
-- and all writers lock in one order.

CREATE TABLE mds_meta (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    store_id uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- No revision above it was ever written. It runs up to a second ahead.
    last_revision bigint NOT NULL DEFAULT 0
);
INSERT INTO mds_meta DEFAULT VALUES;

CREATE TABLE ingested_files (
    content_hash text NOT NULL,
    kind text NOT NULL,
    -- Hashes of the options that are part of the records' keys, and of those that say how to read.
    keys text NOT NULL,
    reading text NOT NULL,
    base_revision bigint NOT NULL,
    modified bigint NOT NULL,
    first_seen bigint NOT NULL,
    path text,
    PRIMARY KEY (content_hash, kind, keys)
);

CREATE TABLE tenants (
    tenant_id uuid PRIMARY KEY,
    first_seen timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE bars (
    tenant_id uuid NOT NULL,
    vendor text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    timeframe text COLLATE "C" NOT NULL,
    ts timestamptz NOT NULL,
    open_price double precision,
    high_price double precision,
    low_price double precision,
    close_price double precision,
    volume double precision,
    provisional boolean NOT NULL DEFAULT false,
    revision bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (ts, tenant_id, vendor, symbol, timeframe)
);

CREATE TABLE options_snap (
    tenant_id uuid NOT NULL,
    vendor text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    expiry date NOT NULL,
    option_type text COLLATE "C" NOT NULL,
    strike double precision NOT NULL,
    ts timestamptz NOT NULL,
    iv double precision,
    delta double precision,
    gamma double precision,
    oi double precision,
    volume double precision,
    spot double precision,
    revision bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (ts, tenant_id, vendor, symbol, expiry, option_type, strike)
);

CREATE TABLE fundamentals (
    tenant_id uuid NOT NULL,
    vendor text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    asof timestamptz NOT NULL,
    period text COLLATE "C" NOT NULL DEFAULT '',
    total_assets double precision,
    total_liabilities double precision,
    net_income double precision,
    eps double precision,
    revision bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (asof, tenant_id, vendor, symbol, period)
);

CREATE TABLE news (
    tenant_id uuid NOT NULL,
    vendor text COLLATE "C" NOT NULL,
    published_at timestamptz NOT NULL,
    id text COLLATE "C" NOT NULL,
    symbol text,
    symbols text,
    title text,
    url text,
    sentiment_score double precision,
    revision bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (published_at, tenant_id, vendor, id)
);

-- Readers see the rows of the tenant that they name with SET app.tenant_id; the owner sees all.
ALTER TABLE bars ENABLE ROW LEVEL SECURITY;
ALTER TABLE options_snap ENABLE ROW LEVEL SECURITY;
ALTER TABLE fundamentals ENABLE ROW LEVEL SECURITY;
ALTER TABLE news ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON bars USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY tenant ON options_snap USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY tenant ON fundamentals USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY tenant ON news USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY tenant ON tenants USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);

-- As whoever asks, or the policies would not bind.
CREATE VIEW latest_prices WITH (security_invoker = true) AS
SELECT DISTINCT ON (tenant_id, vendor, symbol)
    tenant_id, vendor, symbol, close_price AS price, ts AS price_timestamp
FROM bars
WHERE close_price IS NOT NULL
ORDER BY tenant_id, vendor, symbol, ts DESC,
    CASE right(timeframe, 1) WHEN 's' THEN 1 WHEN 'm' THEN 60 WHEN 'h' THEN 3600
        WHEN 'd' THEN 86400 WHEN 'w' THEN 604800 ELSE 2592000 END
        * substring(timeframe FROM '^\d+')::int;

CREATE VIEW data_freshness WITH (security_invoker = true) AS
SELECT 'bars' AS kind, tenant_id, vendor, symbol, timeframe, max(ts) AS latest
    FROM bars GROUP BY tenant_id, vendor, symbol, timeframe
UNION ALL
SELECT 'options', tenant_id, vendor, symbol, NULL, max(ts)
    FROM options_snap GROUP BY tenant_id, vendor, symbol
UNION ALL
SELECT 'fundamentals', tenant_id, vendor, symbol, NULL, max(asof)
    FROM fundamentals GROUP BY tenant_id, vendor, symbol
UNION ALL
SELECT 'news', tenant_id, vendor, NULL, NULL, max(published_at)
    FROM news GROUP BY tenant_id, vendor;
