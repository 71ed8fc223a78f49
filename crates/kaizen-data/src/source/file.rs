//! Files as a source.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kaizen_core::{Error, ErrorKind, Result, async_trait};
use kaizen_table::{Query, Scan, Source, SourceFile};

use crate::blocking::blocking;
use crate::removal::Removal;
use crate::source::format::{FileOptions, Format};
use crate::source::hive::{Hive, partitions};
use crate::source::parts::unchanged;
use crate::source::place::{Listed, Place};
use crate::source::reading::{Files, Reads};
use crate::source::remote::shown;
use crate::source::rewriting::Rewriting;
use crate::source::scan_digest;
use crate::source::selection::Selection;
use crate::source::spans::{spans, whole};
use crate::source::zone::Zone;
use crate::within::Within;

/// So many files are read at the same time.
const AT_ONCE: usize = 4;

/// Files of one format: Parquet, CSV or Arrow IPC, on the local disk or in an object store.
///
/// The location is
///
/// - the path of a file;
/// - the path of a folder, which stands for all files of the format below it, less those whose name
///   or folder begins with `.` or `_`;
/// - a pattern such as `data/**/*.parquet`, in which `*` and `?` stand for any text and any one
///   character of a name, and `**` for any folders; a name that begins with `.` is only found by a
///   pattern that does;
/// - one of these as a URL: `file://`, and with the features `aws`, `azure`, `gcp` also `s3://`,
///   `az://` or `abfs://`, `gs://`. A URL has no credentials in it: these and the endpoint are taken from the environment
///   variables of the store (`AWS_…`, `AZURE_…`, `GOOGLE_…`) and from
///   [options](FileSourceBuilder::option).
///
/// Folders named `key=value` are columns ("Hive partitions"): integers if every value is one, else
/// text, and a value that would not be written so, such as `007`, makes the column text;
/// `__HIVE_DEFAULT_PARTITION__` is a missing value. These are the folders below the location; those
/// of a pattern begin with the ones right before its first name that has a `*` or `?`. All files have the same columns of the
/// same types as the first one by path, or reading fails with the names of file and column.
///
/// Parquet files can be read [span by span](Source::spans), by what their footers say of their groups
/// of rows. CSV and IPC files are one span: of these all rows are in memory at once.
///
/// What is read is looked up anew each time: new files are seen, changed ones read again, and one
/// that vanished in between is an error that names it. The digest of a [`Scan`] names exactly the
/// rows that were decoded: the bytes of the files, and with them their paths if these hold columns,
/// the declared columns of CSV files, their delimiter and texts of missing values, and the declared
/// time zone. Files up to 64 MiB are hashed and decoded from the same bytes in
/// memory, larger ones in ranges, and checked to be unchanged afterwards. Digests are kept while a
/// file's size and time of change, or its tag in the store, are the same; and so are up to 256 MiB
/// of decoded columns.
///
/// Entities are [forgotten](Source::forget) in Parquet and IPC files, one file after the other, each
/// replaced by one without their rows. [`ErrorKind::Conflict`] if somebody changed or replaced it
/// meanwhile. Calls of one program wait for each other; two programs must not forget in the same
/// files at the same time.
pub struct FileSource {
    name: String,
    files: Arc<Files>,
}

impl fmt::Debug for FileSource {
    /// Where it is, without what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, options) = (self.files.place.describe(), &self.files.options);
        let mut shown = f.debug_struct("FileSource");
        shown.field("name", &self.name).field("place", &place).field("options", options).finish()
    }
}

/// A [`FileSource`] that is being described.
#[must_use]
pub struct FileSourceBuilder {
    name: String,
    location: PathBuf,
    options: FileOptions,
    zone: Option<String>,
}

impl fmt::Debug for FileSourceBuilder {
    /// What was said so far, without what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = shown(&self.location.to_string_lossy());
        let mut described = f.debug_struct("FileSourceBuilder");
        described.field("name", &self.name).field("location", &location);
        described.field("options", &self.options).field("zone", &self.zone).finish()
    }
}

impl FileSourceBuilder {
    /// The files' format; what their names say unless set.
    pub fn format(mut self, format: Format) -> Self {
        self.options.format = Some(format);
        self
    }

    /// A column of CSV files, which do not say what they hold. Others in the files are ignored.
    ///
    /// An instant (`Timestamp` with a zone) is written as in RFC 3339, `2013-01-01T05:00:00-05:00`;
    /// without an offset it needs [`time_zone`](Self::time_zone).
    pub fn column(mut self, name: impl Into<String>, data_type: DataType) -> Self {
        self.options.csv.columns.push(Field::new(name, data_type, true));
        self
    }

    /// What stands between the values of CSV files; a comma unless set.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.options.csv.delimiter = delimiter;
        self
    }

    /// A text that stands for a missing value in CSV files, besides the empty one.
    pub fn null_text(mut self, text: impl Into<String>) -> Self {
        self.options.csv.missing.push(text.into());
        self
    }

    /// The zone of timestamps that have none, such as `America/New_York`. They become instants: a
    /// local time that occurs twice is the earlier of the two, and one that does not occur is moved
    /// forward by as much as the clocks were. Unless set they stay naive, and are refused where
    /// instants are needed.
    pub fn time_zone(mut self, name: impl Into<String>) -> Self {
        self.zone = Some(name.into());
        self
    }

    /// Only the files in whose path this partition column has this value; others are not opened.
    pub fn partition(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.partitions.push((key.into(), value.into()));
        self
    }

    /// An option of the object store, under the names that `object_store` gives them, such as
    /// `aws_endpoint`. Its value is in no message and no `Debug`, for it may be a secret.
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.store.insert(key.into(), value.into());
        self
    }

    /// Finds the files, and checks that the first is of the format.
    ///
    /// A location at which nothing is gives [`ErrorKind::NotFound`], a file of another format
    /// [`ErrorKind::Invalid`], one that is cut off [`ErrorKind::Corrupt`], and a URL whose feature
    /// is not built in [`ErrorKind::Unsupported`].
    pub async fn open(self) -> Result<FileSource> {
        let Self { name, location, mut options, zone } = self;
        let place = format!("source `{name}`");
        options.zone = zone.as_deref().map(Zone::named).transpose().within(&place)?;
        let found = Place::find(&location, &options.store).await.within(&place)?;
        let source = FileSource { name, files: Arc::new(Files::new(found, options)) };
        source.schema().await?;
        Ok(source)
    }
}

/// The files of a source at one time.
struct Listing {
    files: Vec<Listed>,
    format: Format,
    hive: Arc<Hive>,
    /// Of all files, with the columns in the names of folders last.
    schema: SchemaRef,
}

impl FileSource {
    /// Opens files by what their names say; see [`builder`](Self::builder) for more. Views know the
    /// source by `name`.
    pub async fn open(name: impl Into<String>, location: impl AsRef<Path>) -> Result<Self> {
        Self::builder(name, location).open().await
    }

    /// Describes files in more detail.
    pub fn builder(name: impl Into<String>, location: impl AsRef<Path>) -> FileSourceBuilder {
        FileSourceBuilder {
            name: name.into(),
            location: location.as_ref().to_owned(),
            options: FileOptions::default(),
            zone: None,
        }
    }

    /// What was read since the source was opened.
    pub fn reads(&self) -> Reads {
        self.files.reads()
    }

    async fn listing(&self, pinned: Option<&[SourceFile]>) -> Result<Listing> {
        let place = &self.files.place;
        let options = &self.files.options;
        let mut files = match pinned {
            None => place.list().await?,
            Some(pinned) => {
                let mut files = Vec::with_capacity(pinned.len());
                for file in pinned {
                    files.push(place.stat(&file.path).await?);
                }
                files
            }
        };
        let of = |file: &Listed| Format::of(&file.path);
        let format = match options.format {
            Some(format) => format,
            None => match files.iter().find_map(of) {
                Some(format) => format,
                None if files.is_empty() => Format::Parquet,
                None => {
                    let file = place.name(&files[0].path);
                    return Err(Error::invalid(format!(
                        "`{file}`: its name does not say its format; set it"
                    )));
                }
            },
        };
        if place.is_folder() && pinned.is_none() {
            let other = files.iter().find(|file| of(file).is_some_and(|other| other != format));
            if let Some(other) = other.filter(|_| options.format.is_none()) {
                let (file, is) = (place.name(&other.path), of(other));
                return Err(Error::invalid(format!(
                    "`{file}`: it is {is:?} among {format:?}; set the format"
                )));
            }
            files.retain(|file| of(file) == Some(format));
        }
        self.keep_partitions(&mut files)?;
        if files.is_empty() {
            let place = place.describe();
            return Err(Error::not_found(format!("`{place}`: there are no {format:?} files")));
        }
        let hive = match place.is_one() {
            true => Hive::default(),
            false => Hive::of(files.iter().map(|file| file.path.as_str()))?,
        };
        let first = files[0].clone();
        let of_first = self.files(move |files| files.schema(&first, format)).await?;
        let schema =
            hive.extended(&of_first).within(format!("`{}`", place.name(&files[0].path)))?;
        Ok(Listing { files, format, hive: Arc::new(hive), schema })
    }

    /// Keeps the files of the partitions that were asked for.
    fn keep_partitions(&self, files: &mut Vec<Listed>) -> Result<()> {
        let wanted = &self.files.options.partitions;
        if wanted.is_empty() {
            return Ok(());
        }
        let mut kept = Vec::new();
        for file in files.drain(..) {
            let found = partitions(&file.path)?;
            let is = |(key, value): &(String, String)| {
                found.iter().any(|(name, is)| name == key && is.as_ref() == Some(value))
            };
            if wanted.iter().all(is) {
                kept.push(file);
            }
        }
        *files = kept;
        Ok(())
    }

    async fn files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let files = Arc::clone(&self.files);
        blocking(move || work(&files)).await
    }

    async fn try_scan(&self, query: &Query<'_>) -> Result<Scan> {
        if let Some([]) = query.files {
            return Err(Error::invalid("no files are asked for"));
        }
        let listing = self.listing(query.files).await?;
        let selection = Arc::new(Selection::of(query));
        let empty = selection.empty(&listing.schema)?;
        let reads = listing.files.into_iter().map(|file| {
            let (selection, hive) = (Arc::clone(&selection), Arc::clone(&listing.hive));
            let (schema, format) = (Arc::clone(&listing.schema), listing.format);
            self.files(move |files| files.read(&file, format, &schema, &hive, &selection))
        });
        let read: Vec<(SourceFile, Vec<RecordBatch>)> =
            stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        let (files, batches): (Vec<_>, Vec<_>) = read.into_iter().unzip();
        if let Some(pinned) = query.files {
            unchanged(pinned, &files)?;
        }
        let mut batches: Vec<RecordBatch> = batches.into_iter().flatten().collect();
        if batches.is_empty() {
            batches.push(empty);
        }
        let reading = self.files.options.reading(listing.format);
        let digest = scan_digest(&files, listing.hive.has_columns(), reading)?;
        Ok(Scan { digest, files, batches })
    }

    async fn try_spans(&self, time: &str, rows: u64) -> Result<Vec<Range<i64>>> {
        let listing = self.listing(None).await?;
        crate::parquet_file::indices(&listing.schema, &[time])?;
        let (format, time) = (listing.format, Arc::<str>::from(time));
        if format != Format::Parquet {
            return Ok(whole());
        }
        let found = listing.files.into_iter().map(|file| {
            let (time, schema) = (Arc::clone(&time), Arc::clone(&listing.schema));
            let hive = Arc::clone(&listing.hive);
            self.files(move |files| files.stretches(&file, format, &schema, &hive, &time))
        });
        let found: Vec<_> = stream::iter(found).buffered(AT_ONCE).try_collect().await?;
        let known: Option<Vec<_>> = found.into_iter().collect();
        let stretches = known.map(|known| known.into_iter().flatten().collect::<Vec<_>>());
        Ok(stretches.map_or_else(whole, |stretches| spans(&stretches, rows)))
    }

    async fn try_forget(&self, entities: &RecordBatch) -> Result<u64> {
        let listing = self.listing(None).await?;
        if listing.format == Format::Csv {
            let message = "CSV files cannot forget: they are not rewritten exactly";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let removal = Removal::new(&listing.schema, entities)?;
        if removal.is_empty() {
            return Ok(0);
        }
        let rewrite = move |files: &Files| {
            let Listing { files: listed, format, hive, schema } = &listing;
            let removal = &removal;
            files.rewrite(listed, &Rewriting { format: *format, schema, hive, removal })
        };
        self.files(rewrite).await
    }
}

#[async_trait]
impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn schema(&self) -> Result<SchemaRef> {
        let listing = self.listing(None).await;
        Ok(listing.within(format!("source `{}`", self.name))?.schema)
    }

    async fn scan(&self, query: &Query<'_>) -> Result<Scan> {
        self.try_scan(query).await.within(format!("source `{}`", self.name))
    }

    async fn spans(&self, time: &str, rows: u64) -> Result<Vec<Range<i64>>> {
        self.try_spans(time, rows).await.within(format!("source `{}`", self.name))
    }

    async fn forget(&self, entities: &RecordBatch) -> Result<u64> {
        self.try_forget(entities).await.within(format!("source `{}`", self.name))
    }
}
