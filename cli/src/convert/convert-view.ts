import type { ConvertResult } from '@sepia/lazy/convert/convert-image';
import type { ConvertReport } from '@sepia/lazy/convert/ends';
import { bytesText, durationText, printable } from '../terminal/format.ts';
import { type Transfer, Transfers } from '../terminal/transfers.ts';

/** Names that a summary shows. */
const MAX_MISSING = 20;

/** Shows a row per layer: pull, convert, push. `out`: undefined shows nothing. */
export function convertView(out: NodeJS.WriteStream | undefined): ConvertReport {
  const rows = new Map<string, Transfer>();
  const transfers = out === undefined ? undefined : new Transfers(out);
  const row = (digest: string, sizeBytes: number): Transfer | undefined => {
    if (transfers === undefined) return undefined;
    const known = rows.get(digest);
    if (known !== undefined) return known;
    const begun = transfers.start(rowName(digest, 'pull'), sizeBytes);
    rows.set(digest, begun);
    return begun;
  };
  return {
    layer: (layer, phase, doneBytes, ofBytes) =>
      row(layer.digest, layer.sizeBytes)?.step(rowName(layer.digest, phase), ofBytes, doneBytes),
    layerDone: (layer, record, isFromCache) => {
      const note =
        record.kind === 'kept'
          ? `kept as it is: ${record.reason}`
          : `${bytesText(layer.sizeBytes)} → ${bytesText(record.sizeBytes)}${isFromCache ? ', was there already' : ''}`;
      row(layer.digest, layer.sizeBytes)?.end(note);
    },
  };
}

function rowName(digest: string, phase: string): string {
  return `${digest.slice(0, 19)} ${phase.padEnd(7)}`;
}

/** Bytes of the source's layers, and of the result's. */
export function layerBytes({ layers }: ConvertResult): { before: number; after: number } {
  let before = 0;
  let after = 0;
  for (const { source, record } of layers) {
    before += source.sizeBytes;
    after += record.kind === 'converted' ? record.sizeBytes : source.sizeBytes;
  }
  return { before, after };
}

/** What is said at the end. */
export function summaryText(result: ConvertResult, target: string, ms: number): string {
  const { before, after } = layerBytes(result);
  const kept = result.layers.filter(({ record }) => record.kind === 'kept');
  const cached = result.layers.filter(({ isFromCache }) => isFromCache).length;
  const lines = [
    `${target}@${result.result.digest}`,
    `${result.layers.length} layers (${cached} were there already, ${kept.length} kept as they are), ${bytesText(before)} → ${bytesText(after)} in ${durationText(ms)}`,
  ];
  for (const { source, record } of kept)
    if (record.kind === 'kept') lines.push(`kept ${source.digest}: ${record.reason}`);
  for (const digest of result.copied) lines.push(`copied as it is: ${digest}`);
  for (const name of result.missing.slice(0, MAX_MISSING))
    lines.push(`no layer has the prioritized file ${printable(name)}`);
  const more = result.missing.length - MAX_MISSING;
  if (more > 0) lines.push(`no layer has ${more} further prioritized files; --json names all`);
  return `${lines.join('\n')}\n`;
}

/** The same for programs. */
export function summaryJson(result: ConvertResult, source: string, target: string, ms: number): string {
  const { before, after } = layerBytes(result);
  return `${JSON.stringify({
    source: { reference: source, digest: result.source.digest, mediaType: result.source.mediaType },
    result: { reference: target, digest: result.result.digest, mediaType: result.result.mediaType },
    layers: result.layers.map(({ source: layer, record, isFromCache }) => ({
      digest: layer.digest,
      sizeBytes: layer.sizeBytes,
      isFromCache,
      ...(record.kind === 'kept'
        ? { kept: record.reason }
        : {
            result: {
              digest: record.digest,
              sizeBytes: record.sizeBytes,
              diffId: record.diffId,
              uncompressedBytes: record.uncompressedBytes,
            },
          }),
    })),
    copied: result.copied,
    missing: result.missing,
    ...(result.tocImage === undefined ? {} : { tocImage: result.tocImage.digest }),
    sizeBytes: { before, after },
    seconds: Math.round(ms) / 1000,
  })}\n`;
}
