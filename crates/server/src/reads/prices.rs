//! The last price of each instrument, as text.

use std::io;

use mds_formats::RowFormat;
use mds_store::LatestPrice;
use serde_json::json;

/// The prices as `mds latest` prints them.
///
/// # Errors
///
/// None that memory would give.
pub fn write(format: RowFormat, prices: &[LatestPrice]) -> io::Result<Vec<u8>> {
    match format {
        RowFormat::Csv => csv(prices),
        RowFormat::Ndjson => Ok(ndjson(prices)),
    }
}

fn ndjson(prices: &[LatestPrice]) -> Vec<u8> {
    let mut text = Vec::new();
    for p in prices {
        let price = json!({
            "tenant_id": p.tenant_id, "vendor": p.vendor, "symbol": p.symbol,
            "price": p.price, "price_timestamp": p.price_timestamp,
        });
        text.extend_from_slice(price.to_string().as_bytes());
        text.push(b'\n');
    }
    text
}

fn csv(prices: &[LatestPrice]) -> io::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["tenant_id", "vendor", "symbol", "price", "price_timestamp"])?;
    for p in prices {
        csv.write_record([
            p.tenant_id.to_string(),
            p.vendor.to_string(),
            p.symbol.to_string(),
            p.price.to_string(),
            p.price_timestamp.to_string(),
        ])?;
    }
    csv.into_inner().map_err(csv::IntoInnerError::into_error)
}
