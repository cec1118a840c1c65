-- The tables as the oldest script of the Python original makes them: an id as primary key, unique
-- keys without tenant and vendor, a tenant that may be absent.
CREATE TABLE tenants (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id varchar(50) NOT NULL UNIQUE,
    name varchar(255),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE jobs_outbox (
    id bigserial PRIMARY KEY,
    idempotency_key text NOT NULL UNIQUE,
    status varchar(20) DEFAULT 'queued',
    priority varchar(20) DEFAULT 'medium'
);
CREATE TABLE bars (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid REFERENCES tenants (id),
    symbol varchar(20) NOT NULL,
    timeframe varchar(10) NOT NULL,
    ts timestamptz NOT NULL,
    open_price numeric(20, 8),
    high_price numeric(20, 8),
    low_price numeric(20, 8),
    close_price numeric(20, 8),
    volume bigint,
    vendor varchar(50) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_bars UNIQUE (symbol, timeframe, ts)
);
CREATE INDEX ix_bars_symbol_tf_ts ON bars (symbol, timeframe, ts);
CREATE TABLE fundamentals (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid REFERENCES tenants (id),
    symbol varchar(20) NOT NULL,
    asof timestamptz NOT NULL,
    total_assets numeric(25, 2),
    total_liabilities numeric(25, 2),
    net_income numeric(25, 2),
    eps numeric(10, 4),
    vendor varchar(50) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_fundamentals UNIQUE (symbol, asof)
);
CREATE TABLE news (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid REFERENCES tenants (id),
    symbol varchar(20),
    title text NOT NULL,
    url text,
    published_at timestamptz NOT NULL,
    sentiment_score numeric(5, 4),
    vendor varchar(50) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_news UNIQUE (symbol, published_at, vendor)
);
CREATE TABLE options_snap (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid REFERENCES tenants (id),
    symbol varchar(20) NOT NULL,
    expiry date NOT NULL,
    option_type varchar(1) NOT NULL,
    strike numeric(12, 2) NOT NULL,
    ts timestamptz NOT NULL,
    iv numeric(6, 4),
    delta numeric(8, 6),
    gamma numeric(10, 8),
    oi bigint,
    volume bigint,
    spot numeric(12, 4),
    vendor varchar(50) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_options UNIQUE (symbol, expiry, option_type, strike, ts)
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
-- There is no column that it could stamp: every UPDATE fails.
CREATE TRIGGER update_options_snap_updated_at BEFORE UPDATE ON options_snap
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();

ALTER TABLE bars ENABLE ROW LEVEL SECURITY;
ALTER TABLE fundamentals ENABLE ROW LEVEL SECURITY;
ALTER TABLE news ENABLE ROW LEVEL SECURITY;
ALTER TABLE options_snap ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation_bars ON bars
    USING (tenant_id = current_setting('app.tenant_id', true)::uuid)
    WITH CHECK (tenant_id = current_setting('app.tenant_id', true)::uuid);
CREATE POLICY tenant_isolation_fundamentals ON fundamentals
    USING (tenant_id = current_setting('app.tenant_id', true)::uuid)
    WITH CHECK (tenant_id = current_setting('app.tenant_id', true)::uuid);
CREATE POLICY tenant_isolation_news ON news
    USING (tenant_id = current_setting('app.tenant_id', true)::uuid)
    WITH CHECK (tenant_id = current_setting('app.tenant_id', true)::uuid);
CREATE POLICY tenant_isolation_options_snap ON options_snap
    USING (tenant_id = current_setting('app.tenant_id', true)::uuid)
    WITH CHECK (tenant_id = current_setting('app.tenant_id', true)::uuid);

CREATE VIEW latest_prices AS
SELECT DISTINCT ON (symbol) symbol, close_price AS price, ts AS price_timestamp, vendor
FROM bars ORDER BY symbol, ts DESC;
CREATE VIEW data_freshness AS
SELECT 'bars' AS table_name, max(ts) AS latest_asof FROM bars
UNION ALL SELECT 'fundamentals', max(asof) FROM fundamentals
UNION ALL SELECT 'news', max(published_at) FROM news;
CREATE VIEW job_queue_health AS
SELECT status, priority, count(*) AS job_count FROM jobs_outbox GROUP BY status, priority;
