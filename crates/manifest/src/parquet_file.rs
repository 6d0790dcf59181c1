//! Manifests in Parquet, read column by column, a batch of rows at a time.
//!
//! A Parquet file tells at its end where everything is, so it is put on disk first, for as long as it is read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use forebay_model::TimestampNs;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::schema::types::ColumnDescriptor;

use crate::builder::{Builder, run_file};
use crate::columns::{Column, Values};
use crate::csv_file::broken;
use crate::error::ManifestError;

/// Rows that are read at once, of each column.
const BATCH: usize = 1_024;
/// The longest page of a column that is unpacked: writers make pages of a mebibyte. What says that it is longer is damaged.
const FOOTER_MAX: u64 = 64 << 20;

/// Reads all rows.
pub(crate) fn read(mut file: impl Read, name: &str, builder: &mut Builder) -> Result<(), ManifestError> {
    let spooled = spool(&mut file, name, builder)?;
    check_footer(&spooled, name)?;
    let reader = SerializedFileReader::new(spooled).map_err(|error| explain(name, &error))?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let wanted: Vec<(usize, Column)> =
        (0..schema.num_columns()).filter_map(|nth| Some((nth, Column::named(schema.column(nth).name())?))).collect();
    if !wanted.iter().any(|(_, column)| column.is_name()) {
        return Err(ManifestError::wrong(name, "no column of it names an object: `key` is expected"));
    }
    for (nth, _) in &wanted {
        if schema.column(*nth).max_rep_level() > 0 {
            let why = format!("the column {} holds several values a row", schema.column(*nth).name());
            return Err(ManifestError::wrong(name, why));
        }
    }
    let mut first = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(|error| explain(name, &error))?;
        read_group(&*group, &wanted, &mut first, name, builder)?;
    }
    Ok(())
}

fn read_group(
    group: &dyn RowGroupReader,
    wanted: &[(usize, Column)],
    first: &mut u64,
    name: &str,
    builder: &mut Builder,
) -> Result<(), ManifestError> {
    let damaged = |error: ParquetError| explain(name, &error);
    let mut columns = Vec::with_capacity(wanted.len());
    for (nth, column) in wanted {
        let descriptor = group.metadata().schema_descr().column(*nth);
        columns.push((*column, descriptor, group.get_column_reader(*nth).map_err(damaged)?));
    }
    let rows = u64::try_from(group.metadata().num_rows()).unwrap_or(0);
    let mut left = rows;
    while left > 0 {
        let batch = BATCH.min(usize::try_from(left).unwrap_or(BATCH));
        let mut lines = vec![Values::default(); batch];
        for (column, descriptor, reader) in &mut columns {
            put_column(*column, descriptor, reader, &mut lines)
                .map_err(|why| ManifestError::wrong(name, format!("rows {} and following: {why}", *first + 1)))?;
        }
        for (nth, values) in lines.into_iter().enumerate() {
            let row = *first + nth as u64 + 1;
            let wrong = |why: String| ManifestError::at_line(name, row, why);
            let taken = values.take(builder.rules(), false).map_err(wrong)?;
            builder.take(taken).map_err(|error| crate::csv_file::named(name, row, error))?;
        }
        *first += batch as u64;
        left -= batch as u64;
    }
    Ok(())
}

/// Puts the next values of a column into `lines`.
fn put_column(
    column: Column,
    descriptor: &ColumnDescriptor,
    reader: &mut ColumnReader,
    lines: &mut [Values],
) -> Result<(), String> {
    let unit = unit_of(descriptor);
    let number =
        |value: i64| -> Result<u64, String> { value.try_into().map_err(|_| format!("{value} is less than 0")) };
    let put_number = |line: &mut Values, value: i64| {
        match column {
            Column::Size => line.size = Some(number(value)?),
            Column::Inode => line.inode = Some(number(value)?),
            Column::Mtime | Column::Ctime => {
                let time = value.checked_mul(unit).map(TimestampNs).ok_or_else(|| format!("{value} is no time"))?;
                *(if column == Column::Mtime { &mut line.mtime } else { &mut line.ctime }) = Some(time);
            }
            _ => return Err(format!("the column {} holds numbers", descriptor.name())),
        }
        Ok(())
    };
    match reader {
        ColumnReader::ByteArrayColumnReader(reader) => each(reader, descriptor, lines, |line, value: ByteArray| {
            let text = std::str::from_utf8(value.data()).map_err(|_| format!("{} is not UTF-8", descriptor.name()))?;
            line.put(column, text)
        }),
        ColumnReader::Int64ColumnReader(reader) => each(reader, descriptor, lines, put_number),
        ColumnReader::Int32ColumnReader(reader) => {
            each(reader, descriptor, lines, |line, value: i32| put_number(line, i64::from(value)))
        }
        ColumnReader::Int96ColumnReader(reader) => each(reader, descriptor, lines, |line, value| match column {
            Column::Mtime => {
                line.mtime = Some(TimestampNs(nanoseconds(value.data()).ok_or("a time that is none")?));
                Ok(())
            }
            _ => Err(format!("the column {} holds times", descriptor.name())),
        }),
        ColumnReader::BoolColumnReader(reader) => each(reader, descriptor, lines, |line, value: bool| {
            match column {
                Column::IsLatest => line.is_latest = Some(value),
                Column::IsDeleteMarker => line.is_delete_marker = Some(value),
                _ => return Err(format!("the column {} holds truth values", descriptor.name())),
            }
            Ok(())
        }),
        _ => Err(format!("the column {} is of a type that is not expected", descriptor.name())),
    }
}

/// Gives each line its value, if it has one.
fn each<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    descriptor: &ColumnDescriptor,
    lines: &mut [Values],
    mut put: impl FnMut(&mut Values, T::T) -> Result<(), String>,
) -> Result<(), String> {
    let (mut levels, mut values) = (Vec::with_capacity(lines.len()), Vec::with_capacity(lines.len()));
    let mut read = 0;
    while read < lines.len() {
        let (records, ..) = reader
            .read_records(lines.len() - read, Some(&mut levels), None, &mut values)
            .map_err(|error| error.to_string())?;
        if records == 0 {
            return Err(format!("the column {} ends before the others", descriptor.name()));
        }
        read += records;
    }
    let full = descriptor.max_def_level();
    let mut values = values.into_iter();
    for (nth, line) in lines.iter_mut().enumerate() {
        if full == 0 || levels.get(nth) == Some(&full) {
            let value = values.next().ok_or_else(|| format!("the column {} lacks values", descriptor.name()))?;
            put(line, value)?;
        }
    }
    Ok(())
}

/// Nanoseconds of one unit of a column of times. Plain numbers are seconds.
fn unit_of(descriptor: &ColumnDescriptor) -> i64 {
    match (descriptor.logical_type_ref(), descriptor.converted_type()) {
        (Some(LogicalType::Timestamp(timestamp)), _) => match timestamp.unit {
            TimeUnit::MILLIS => 1_000_000,
            TimeUnit::MICROS => 1_000,
            TimeUnit::NANOS => 1,
        },
        (_, ConvertedType::TIMESTAMP_MILLIS) => 1_000_000,
        (_, ConvertedType::TIMESTAMP_MICROS) => 1_000,
        _ => 1_000_000_000,
    }
}

/// The time of 96 bits: nanoseconds of the day, and the day of the Julian calendar.
fn nanoseconds(words: &[u32]) -> Option<i64> {
    let of_day = i64::try_from(u64::from(*words.first()?) | u64::from(*words.get(1)?) << 32).ok()?;
    let days = i64::from(*words.get(2)?) - 2_440_588;
    days.checked_mul(86_400_000_000_000)?.checked_add(of_day)
}

fn spool(file: &mut impl Read, name: &str, builder: &Builder) -> Result<File, ManifestError> {
    let mut spooled = run_file(builder.directory())?;
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = match file.read(&mut piece) {
            Ok(0) => return Ok(spooled),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(name, &error)),
        };
        spooled.write_all(&piece[..read]).map_err(|error| ManifestError::disk(&error))?;
    }
}

/// The end of the file says how long its description is: before memory is taken for it, that is believed to a bound.
fn check_footer(file: &File, name: &str) -> Result<(), ManifestError> {
    let disk = |error: std::io::Error| ManifestError::read(&error);
    let mut file = file.try_clone().map_err(disk)?;
    let length = file.seek(SeekFrom::End(0)).map_err(disk)?;
    let mut end = [0; 8];
    if length >= 12 {
        file.seek(SeekFrom::End(-8)).map_err(disk)?;
        file.read_exact(&mut end).map_err(disk)?;
    }
    let said = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    if &end[4..] != b"PAR1" || said + 12 > length || said > FOOTER_MAX {
        return Err(ManifestError::wrong(name, "it is no Parquet file, or it was cut"));
    }
    Ok(())
}

fn explain(name: &str, error: &ParquetError) -> ManifestError {
    ManifestError::wrong(name, format!("it is no whole Parquet file: {error}"))
}
