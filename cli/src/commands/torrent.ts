import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fewAtOnce } from '@sepia/base/async/few-at-once';
import { type Digest, isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { createDispatcher, type Dispatcher } from '@sepia/http/sockets';
import { torrentName } from '@sepia/metainfo/torrent';
import type { Command } from 'commander';
import { urlOption, wholeNumber } from '../options/option-values.ts';
import { commandClient } from '../registry/command-client.ts';
import { addCredentialOptions, type CredentialFlags } from '../registry/credentials.ts';
import { type ImageReference, isThisMachine, parseImageReference } from '../registry/image-reference.ts';
import { resolveImage } from '../registry/pull-image.ts';
import { sourceOf } from '../registry/pull-source.ts';
import { TorrentClient } from '../registry/torrent-client.ts';
import { bytesText } from '../terminal/format.ts';
import { DEFAULT_PORTS_FROM, HOST } from '../up/plan.ts';

const DEFAULT_TRACKER = `http://${HOST}:${DEFAULT_PORTS_FROM + 100}`;
/** Blobs asked for at once: each is read once by an origin. */
const PARALLEL = 2;

interface Flags extends CredentialFlags {
  readonly tracker?: string;
  readonly agent?: string;
  readonly output: string;
  readonly wait: number;
}

/** `sepia torrent`. */
export function addTorrent(program: Command): void {
  const command = program
    .command('torrent <ref> [digests...]')
    .description(
      'write a .torrent for standard BitTorrent clients: of these blobs of the repository, else of every blob of the image',
    )
    .option(
      '--tracker <url>',
      `any tracker of the cluster (default: ${DEFAULT_TRACKER})`,
      urlOption('--tracker'),
    )
    .option(
      '--agent <url>',
      'registry endpoint that the image is read from, as of "sepia pull"',
      urlOption('--agent'),
    )
    .option('--output <folder>', 'folder for the files, each named by its digest', '.')
    .option(
      '--wait <seconds>',
      'how long to ask again while an origin reads the blob for the first time',
      wholeNumber('--wait'),
      600,
    );
  addCredentialOptions(command).action(async (ref: string, digests: string[], flags: Flags) => {
    const image = parseImageReference(ref);
    const dispatcher = createDispatcher();
    const blobs = digests.length > 0 ? digests.map(wantedDigest) : await blobsOf(dispatcher, image, flags);
    const client = new TorrentClient(
      { dispatcher },
      {
        tracker: flags.tracker ?? DEFAULT_TRACKER,
        waitMs: flags.wait * 1_000,
        nowMs: () => performance.now(),
      },
    );
    await write(client, image, blobs, resolve(flags.output));
  });
}

async function write(
  client: TorrentClient,
  { host, repository }: ImageReference,
  blobs: readonly Digest[],
  folder: string,
): Promise<void> {
  const upstream = host === undefined || isThisMachine(host) ? undefined : host;
  mkdirSync(folder, { recursive: true });
  await fewAtOnce(blobs, PARALLEL, async (digest, signal) => {
    const bytes = await client.torrent({ upstream, repository, digest }, signal);
    const file = join(folder, `${torrentName(digest)}.torrent`);
    writeFileSync(file, bytes);
    process.stdout.write(`${file}  ${bytesText(bytes.length)}\n`);
  });
}

function wantedDigest(text: string): Digest {
  if (isDigest(text)) return text;
  throw new CodedError('CONFIG_INVALID', {
    message: `digests: "${text}" is not one; write sha256:<64 hex> or sha512:<128 hex>`,
  });
}

/** Digests of an image's blobs, empty ones left out: they have no torrent. */
async function blobsOf(dispatcher: Dispatcher, image: ImageReference, flags: Flags): Promise<Digest[]> {
  const source = sourceOf(image, flags.agent);
  const hint = 'name another agent with --agent URL';
  const client = commandClient({ ...source, isMember: true, hint }, flags, dispatcher);
  const { blobs } = await resolveImage(client, image.repository, image.reference);
  return blobs.filter(({ sizeBytes }) => sizeBytes > 0).map(({ digest }) => digest);
}
