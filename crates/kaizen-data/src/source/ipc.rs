//! Arrow IPC files.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{Block, root_as_footer};
use kaizen_core::{Bytes, Context, Error, ErrorKind, Result};

use crate::parquet_file::{bounded, indices, plain, project};
use crate::source::input::Input;
use crate::within::Within;

/// Begins and ends every Arrow IPC file.
const MAGIC: &[u8] = b"ARROW1";

/// What follows the footer: its length and the magic.
const TRAILER: u64 = 10;

/// An Arrow IPC file with its footer decoded.
#[derive(Debug)]
pub(crate) struct IpcFile {
    input: Arc<Input>,
    footer: Bytes,
    schema: SchemaRef,
}

impl IpcFile {
    /// Decodes the footer of a file. Blocks, if the file is not in memory.
    pub(crate) fn of(input: Arc<Input>) -> Result<Self> {
        let (name, size) = (&input.name, input.size);
        if size == 0 {
            return Err(Error::invalid(format!("`{name}`: the file is empty")));
        }
        let begins = input.range(0..size.min(MAGIC.len() as u64))? == MAGIC;
        if !begins {
            return Err(Error::invalid(format!(
                "`{name}`: not an Arrow IPC file, which begins with `ARROW1`"
            )));
        }
        let cut = || Error::corrupt(format!("`{name}`: the Arrow IPC file is cut off"));
        let end = size.checked_sub(TRAILER).ok_or_else(cut)?;
        let trailer = input.range(end..size)?;
        let trailer: [u8; 10] = trailer.as_ref().try_into().map_err(|_| cut())?;
        let length = read_footer_length(trailer).map_err(|error| cut().with_source(error))?;
        let start = end.checked_sub(length as u64).ok_or_else(cut)?;
        let footer = input.range(start..end)?;
        let message = || format!("`{name}`: the Arrow IPC file's footer");
        let decoded = root_as_footer(&footer)
            .map_err(|error| Error::corrupt(format!("{}: {error}", message())))?;
        let schema = decoded.schema().context(ErrorKind::Corrupt, message())?;
        let schema = Arc::new(fb_to_schema(schema));
        bounded(name, &schema)?;
        Ok(Self { input, footer, schema })
    }

    /// The columns, without metadata.
    pub(crate) fn schema(&self) -> SchemaRef {
        plain(&self.schema)
    }

    /// The columns, with what the file says of them.
    pub(crate) fn full_schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes these columns batch by batch, in the order asked for. Blocks.
    pub(crate) fn decode(
        &self,
        columns: &[&str],
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let name = &self.input.name;
        let message = || format!("`{name}`: the Arrow IPC file's batches");
        let wanted = indices(&self.schema, columns).within(format!("`{name}`"))?;
        let footer = root_as_footer(&self.footer)
            .map_err(|error| Error::corrupt(format!("{}: {error}", message())))?;
        let mut decoder = FileDecoder::new(Arc::clone(&self.schema), footer.version());
        let mut ascending = wanted;
        ascending.sort_unstable();
        decoder = decoder.with_projection(ascending);
        for block in footer.dictionaries().iter().flatten() {
            let bytes = self.block(block)?;
            decoder.read_dictionary(block, &bytes).context(ErrorKind::Corrupt, message())?;
        }
        for block in footer.recordBatches().iter().flatten() {
            let bytes = self.block(block)?;
            let batch = decoder.read_record_batch(block, &bytes);
            if let Some(batch) = batch.context(ErrorKind::Corrupt, message())? {
                each(project(&batch, columns).within(format!("`{name}`"))?)?;
            }
        }
        Ok(())
    }

    fn block(&self, block: &Block) -> Result<Buffer> {
        let range = u64::try_from(block.offset()).ok().and_then(|start| {
            let metadata = u64::try_from(block.metaDataLength()).ok()?;
            let body = u64::try_from(block.bodyLength()).ok()?;
            Some(start..start.checked_add(metadata)?.checked_add(body)?)
        });
        let message = format!("`{}`: where a batch of the Arrow IPC file lies", self.input.name);
        Ok(Buffer::from(self.input.range(range.context(ErrorKind::Corrupt, message)?)?))
    }
}
