//! Which format a file is in, by its name.

/// The format of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values; columns by the first line.
    Csv {
        /// Packed by gzip.
        is_packed: bool,
    },
    /// A JSON object a line.
    JsonLines {
        /// Packed by gzip.
        is_packed: bool,
    },
    /// Parquet.
    Parquet,
    /// The `manifest.json` of an S3 Inventory report, which names the files of the report.
    Inventory,
}

impl Format {
    /// The format of a file of that name.
    ///
    /// # Errors
    /// What names are known.
    pub fn of(name: &str) -> Result<Self, String> {
        let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        let (bare, is_packed) = name.strip_suffix(".gz").map_or((name.as_str(), false), |bare| (bare, true));
        match bare.rsplit_once('.').map_or("", |(_, end)| end) {
            "csv" => Ok(Self::Csv { is_packed }),
            "jsonl" | "ndjson" => Ok(Self::JsonLines { is_packed }),
            "parquet" if !is_packed => Ok(Self::Parquet),
            "json" if name == "manifest.json" => Ok(Self::Inventory),
            "orc" => Err("ORC is not read: have the inventory written as Parquet or CSV".to_owned()),
            _ => Err("a manifest's name ends in .csv, .jsonl (both also with .gz) or .parquet, or is the \
                      manifest.json of an S3 Inventory report"
                .to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_format() {
        assert_eq!(Format::of("a/b.CSV"), Ok(Format::Csv { is_packed: false }));
        assert_eq!(Format::of("b.csv.gz"), Ok(Format::Csv { is_packed: true }));
        assert_eq!(Format::of("set.manifest.jsonl"), Ok(Format::JsonLines { is_packed: false }));
        assert_eq!(Format::of("x/y.parquet"), Ok(Format::Parquet));
        assert_eq!(Format::of("x/2024-01-01T01-00Z/manifest.json"), Ok(Format::Inventory));
        for (name, said) in [("a.orc", "Parquet or CSV"), ("a.json", ".jsonl"), ("a", ".csv"), ("a.parquet.gz", ".csv")]
        {
            assert!(Format::of(name).is_err_and(|why| why.contains(said)), "{name}");
        }
    }
}
