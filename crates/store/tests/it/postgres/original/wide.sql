-- The tables as the newer script of the Python original makes them: keys with tenant and vendor, the
-- time first, and row security that binds the owner as well.
CREATE TABLE tenants (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id varchar(50) NOT NULL UNIQUE,
    name varchar(255),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE jobs_outbox (
    id bigserial PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    idempotency_key text NOT NULL UNIQUE
);
CREATE TABLE bars (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    vendor varchar(50) NOT NULL,
    symbol varchar(20) NOT NULL CHECK (symbol = upper(symbol)),
    timeframe varchar(16) NOT NULL,
    ts timestamptz NOT NULL,
    open_price numeric(20, 8),
    high_price numeric(20, 8),
    low_price numeric(20, 8),
    close_price numeric(20, 8),
    volume bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT bars_pk PRIMARY KEY (ts, tenant_id, vendor, symbol, timeframe)
);
CREATE INDEX ix_bars_id ON bars (id);
CREATE INDEX ix_bars_tenant_vendor_sym_tf_ts_desc
    ON bars (tenant_id, vendor, symbol, timeframe, ts DESC);
CREATE TABLE fundamentals (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    vendor varchar(50) NOT NULL,
    symbol varchar(20) NOT NULL CHECK (symbol = upper(symbol)),
    asof timestamptz NOT NULL,
    total_assets numeric(25, 2),
    total_liabilities numeric(25, 2),
    net_income numeric(25, 2),
    eps numeric(10, 4),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fundamentals_pk PRIMARY KEY (asof, tenant_id, vendor, symbol)
);
CREATE TABLE news (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    vendor varchar(50) NOT NULL,
    symbol varchar(20) CHECK (symbol IS NULL OR symbol = upper(symbol)),
    title text NOT NULL,
    url text,
    published_at timestamptz NOT NULL,
    sentiment_score numeric(5, 4),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT news_pk PRIMARY KEY (published_at, tenant_id, vendor, id)
);
CREATE TABLE options_snap (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    vendor varchar(50) NOT NULL,
    symbol varchar(20) NOT NULL CHECK (symbol = upper(symbol)),
    expiry date NOT NULL,
    option_type varchar(1) NOT NULL CHECK (option_type IN ('C', 'P')),
    strike numeric(12, 2) NOT NULL,
    ts timestamptz NOT NULL,
    iv numeric(6, 4),
    delta numeric(8, 6),
    gamma numeric(10, 8),
    oi bigint,
    volume bigint,
    spot numeric(12, 4),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT options_snap_pk
        PRIMARY KEY (ts, tenant_id, vendor, symbol, expiry, option_type, strike)
);

CREATE FUNCTION update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at = now(); RETURN NEW; END $$;
CREATE TRIGGER update_tenants_updated_at BEFORE UPDATE ON tenants
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE TRIGGER update_bars_updated_at BEFORE UPDATE ON bars
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE TRIGGER update_fundamentals_updated_at BEFORE UPDATE ON fundamentals
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE TRIGGER update_news_updated_at BEFORE UPDATE ON news
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE TRIGGER update_options_snap_updated_at BEFORE UPDATE ON options_snap
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['jobs_outbox', 'bars', 'fundamentals', 'news', 'options_snap'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant_isolation_%s ON %I USING ('
            'current_setting(''app.tenant_id'', true) IS NOT NULL AND '
            'tenant_id = current_setting(''app.tenant_id'', true)::uuid)', t, t);
    END LOOP;
END $$;

CREATE VIEW latest_prices AS
SELECT DISTINCT ON (tenant_id, vendor, symbol)
    tenant_id, vendor, symbol, close_price AS price, ts AS price_timestamp
FROM bars ORDER BY tenant_id, vendor, symbol, ts DESC;
CREATE VIEW data_freshness AS
SELECT 'bars' AS table_name, max(ts) FROM bars
UNION ALL SELECT 'fundamentals', max(asof) FROM fundamentals
UNION ALL SELECT 'news', max(published_at) FROM news;

CREATE TABLE bars_ohlcv (
    provider text NOT NULL,
    symbol text NOT NULL CHECK (symbol = upper(symbol)),
    interval text NOT NULL,
    ts timestamptz NOT NULL,
    close double precision NOT NULL,
    PRIMARY KEY (provider, symbol, interval, ts)
);
