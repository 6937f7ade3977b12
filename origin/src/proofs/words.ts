import { askAll } from '@sepia/base/async/ask-many';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { Where, Word, WordAsked } from '@sepia/cluster/api/blob-answers';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { MOST_WORDS_MS, WORDS_MS } from '../deadlines/members.ts';

/** Options of a mere look: nothing is fetched, and no other origin is asked. */
const WATCHING = { fetch: false, wantAll: false, others: 'skip' } as const;

/** What is known of blobs here. */
interface Known {
  where(name: BlobName): Promise<Where>;
  metainfo(
    name: BlobName,
    wish: typeof WATCHING,
    signal: AbortSignal,
  ): Promise<{ readonly type: 'local'; readonly metainfo: Metainfo } | { readonly type: 'remote' }>;
}

/**
 * What is told of several links at once, in their order. Null for what is no plain answer, an error too, or takes longer than
 * the others, or than `MOST_WORDS_MS`: whoever asks for that alone is told all of it. @throws a bug
 */
export async function wordsOf(
  blobs: Known,
  asked: readonly WordAsked[],
  signal: AbortSignal,
): Promise<Word[]> {
  const tell = async ({ etag, ...link }: WordAsked, late: AbortSignal): Promise<Word> => {
    const name: BlobName = { ...link, repository: parseRepositoryName(link.repository) };
    if (etag === undefined) return await blobs.where(name);
    const source = await blobs.metainfo(name, WATCHING, late);
    return source.type === 'local' && source.metainfo.etag === etag ? 'same' : null;
  };
  const said = await askAll(asked, tell, { signal, isEnough: () => WORDS_MS, mostMs: MOST_WORDS_MS });
  return said.map((one) => (one.type === 'answer' ? one.answer : null));
}
