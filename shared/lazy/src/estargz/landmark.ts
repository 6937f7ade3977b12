import type { ByteString } from '../tar/byte-string.ts';
import { EMPTY_HEADER } from '../tar/encode-header.ts';
import type { TarEntry } from '../tar/tar-entry.ts';
import { TOC_NAME } from './toc.ts';

/** Ends the files that a snapshotter reads ahead: it prefetches the blob up to this entry's payload. */
export const PREFETCH_LANDMARK = '.prefetch.landmark' as ByteString;
/** First entry of a layer without prioritized files: nothing is to be read ahead. */
export const NO_PREFETCH_LANDMARK = '.no.prefetch.landmark' as ByteString;
/** The one byte of either landmark. */
export const LANDMARK_CONTENT = 0x0f;

/** The header of a landmark: a file of one byte, everything else zero. */
export function landmarkEntry(name: ByteString): TarEntry {
  return {
    ...EMPTY_HEADER,
    type: 'file',
    name,
    size: 1,
    headerOffset: 0,
    payloadOffset: 0,
    sparse: false,
    usesGlobals: false,
    isPlain: false,
  };
}

/** True for the clean names that an eStargz layer keeps for itself: the TOC and both landmarks. */
export function isReservedName(name: string): boolean {
  return name === TOC_NAME || name === PREFETCH_LANDMARK || name === NO_PREFETCH_LANDMARK;
}
