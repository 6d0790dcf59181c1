//! The `manifest.json` of an S3 Inventory report: which files it has, and what is in them.

use serde::Deserialize;

use crate::error::ManifestError;
use crate::format::Format;

/// The longest `manifest.json`: of some 200,000 files, each of a million objects.
pub const INVENTORY_MAX: u64 = 64 << 20;

/// An S3 Inventory report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The bucket that it is of.
    pub bucket: String,
    /// Keys of its files, in the bucket that the report lies in.
    pub files: Vec<String>,
    /// Their format.
    pub format: Format,
    /// The columns of CSV files, which do not name them.
    pub columns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    source_bucket: String,
    file_format: String,
    file_schema: String,
    files: Vec<DataFile>,
}

#[derive(Deserialize)]
struct DataFile {
    key: String,
}

impl Inventory {
    /// Reads a `manifest.json`.
    ///
    /// # Errors
    /// It is none, or of a format that is not read.
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, ManifestError> {
        let document: Document = serde_json::from_slice(text).map_err(|error| {
            let what = "expected are sourceBucket, fileFormat, fileSchema and files";
            ManifestError::wrong(name, format!("it is no manifest.json of an S3 Inventory report: {error}; {what}"))
        })?;
        let format = match document.file_format.to_ascii_lowercase().as_str() {
            "csv" => Format::Csv { is_packed: true },
            "parquet" => Format::Parquet,
            "orc" => {
                let what = "the report is in ORC, which is not read: have the inventory written as Parquet or CSV";
                return Err(ManifestError::wrong(name, what));
            }
            _ => {
                let what = format!("the report's format {:?} is not known", document.file_format);
                return Err(ManifestError::wrong(name, what));
            }
        };
        let columns = document.file_schema.split(',').map(|column| column.trim().to_owned()).collect();
        let files = document.files.into_iter().map(|file| file.key).collect();
        Ok(Self { bucket: document.source_bucket, files, format, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_its_files_and_columns() {
        let text = br#"{"sourceBucket":"ml","destinationBucket":"arn:aws:s3:::inv","version":"2016-11-30",
            "creationTimestamp":"1514944800000","fileFormat":"CSV","fileSchema":"Bucket, Key, Size, ETag",
            "files":[{"key":"p/ml/all/data/x.csv.gz","size":12,"MD5checksum":"f11166069f1990abeb9c97ace9cdfabc"}]}"#;
        let report = Inventory::parse("manifest.json", text).expect("it reads");
        assert_eq!((report.bucket.as_str(), report.files.len()), ("ml", 1));
        assert_eq!(report.columns, ["Bucket", "Key", "Size", "ETag"]);
        assert_eq!(report.format, Format::Csv { is_packed: true });
        for (text, said) in [
            (&br#"{"sourceBucket":"b","fileFormat":"ORC","fileSchema":"","files":[]}"#[..], "Parquet or CSV"),
            (br#"{"sourceBucket":"b","fileFormat":"XML","fileSchema":"","files":[]}"#, "XML"),
            (b"{}", "sourceBucket"),
            (b"key,size", "manifest.json"),
        ] {
            let error = Inventory::parse("manifest.json", text).expect_err("it is refused");
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
