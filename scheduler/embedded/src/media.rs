//! What a client would accept: the media types of an `Accept` header that this
//! API can make, in the client's order. Kubernetes puts the wanted shape (a
//! table, only metadata, aggregated discovery) into parameters of the type.

/// A shape of answer that this API can make. All of them are JSON.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Shape {
    /// The object or list as it is.
    Plain,
    /// A `meta.k8s.io` Table, in that version.
    Table(String),
    /// Objects reduced to their metadata.
    PartialObject,
    /// A list of objects reduced to their metadata.
    PartialList,
    /// Aggregated discovery, in that version of `apidiscovery.k8s.io`.
    Discovery(String),
}

/// The shapes that the header asks for, best first. No header, or an empty
/// one, accepts anything. Empty if nothing that is asked for can be made, such
/// as protobuf only: then the answer is 406.
#[must_use]
pub fn shapes(accept: Option<&str>) -> Vec<Shape> {
    let header = accept.unwrap_or_default().trim();
    if header.is_empty() {
        return vec![Shape::Plain];
    }
    let mut found: Vec<(u16, Shape)> = header.split(',').filter_map(media).collect();
    found.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    found.into_iter().map(|(_, shape)| shape).collect()
}

/// One media range, with its quality in thousandths.
fn media(range: &str) -> Option<(u16, Shape)> {
    let mut parts = range.split(';').map(str::trim);
    let (mut wanted, mut group, mut version, mut quality) = (None, None, None, 1000);
    let plain = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/json" => true,
        "*/*" | "application/*" => false,
        _ => return None,
    };
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name.trim() {
            "as" => wanted = Some(value.trim()),
            "g" => group = Some(value.trim()),
            "v" => version = Some(value.trim()),
            "q" => quality = thousandths(value.trim())?,
            _ => {}
        }
    }
    if quality == 0 {
        return None;
    }
    let version = version.unwrap_or("v1");
    let shape = match (wanted.filter(|_| plain), group) {
        (None, _) => Shape::Plain,
        (Some("Table"), Some("meta.k8s.io")) if matches!(version, "v1" | "v1beta1") => {
            Shape::Table(version.to_owned())
        }
        (Some("PartialObjectMetadata"), Some("meta.k8s.io")) if version == "v1" => Shape::PartialObject,
        (Some("PartialObjectMetadataList"), Some("meta.k8s.io")) if version == "v1" => Shape::PartialList,
        (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"))
            if matches!(version, "v2" | "v2beta1") =>
        {
            Shape::Discovery(version.to_owned())
        }
        _ => return None,
    };
    Some((quality, shape))
}

fn thousandths(quality: &str) -> Option<u16> {
    let (whole, rest) = quality.split_once('.').unwrap_or((quality, ""));
    let rest: String = rest.chars().chain("000".chars()).take(3).collect();
    let value = whole.parse::<u16>().ok()?.checked_mul(1000)?.checked_add(rest.parse().ok()?)?;
    (value <= 1000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_preferred_where_it_stands_first() {
        let asked = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                     application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(
            shapes(Some(asked)),
            [Shape::Table("v1".into()), Shape::Table("v1beta1".into()), Shape::Plain]
        );
    }

    #[test]
    fn protobuf_alone_cannot_be_made_and_json_beside_it_can() {
        assert_eq!(shapes(Some("application/vnd.kubernetes.protobuf")), []);
        assert_eq!(shapes(Some("application/vnd.kubernetes.protobuf, application/json")), [Shape::Plain]);
    }

    #[test]
    fn quality_orders_and_zero_refuses() {
        assert_eq!(
            shapes(Some("application/json;q=0.5, application/json;as=Table;g=meta.k8s.io;v=v1;q=0.9")),
            [Shape::Table("v1".into()), Shape::Plain]
        );
        assert_eq!(shapes(Some("application/json;q=0")), []);
        assert_eq!(shapes(Some("application/json;q=7")), []);
    }

    #[test]
    fn an_unknown_shape_is_not_taken_for_a_known_one() {
        for asked in [
            "application/json;as=Table;v=v9;g=meta.k8s.io",
            "application/json;as=Table;v=v1;g=other",
            "application/json;as=Chair;v=v1;g=meta.k8s.io",
        ] {
            assert_eq!(shapes(Some(asked)), [], "{asked}");
        }
    }

    #[test]
    fn no_header_accepts_anything() {
        assert_eq!(shapes(None), [Shape::Plain]);
        assert_eq!(shapes(Some("*/*")), [Shape::Plain]);
    }
}
