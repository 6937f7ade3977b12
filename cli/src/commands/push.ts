import { pipeline, type Readable, Transform } from 'node:stream';
import { CodedError } from '@sepia/base/errors';
import { createDispatcher } from '@sepia/http/sockets';
import type { Command } from 'commander';
import { openArchive } from '../image/archive.ts';
import { type ImageToPush, loadImage } from '../image/load-image.ts';
import { addCredentialOptions, type CredentialFlags, credentialsFor } from '../registry/credentials.ts';
import { isThisMachine, parseImageReference } from '../registry/image-reference.ts';
import { type BlobSource, RegistryClient } from '../registry/registry-client.ts';
import { durationText } from '../terminal/format.ts';
import { type Transfer, Transfers } from '../terminal/transfers.ts';
import { DEFAULT_PORTS_FROM, HOST } from '../up/plan.ts';
import { urlOption } from './option-values.ts';

const DEFAULT_PROXY = `http://${HOST}:${DEFAULT_PORTS_FROM + 300}`;

/** `sepia push`. */
export function addPush(program: Command): void {
  const command = program
    .command('push <dir-or-tar> <ref>')
    .description('push an OCI layout folder, or a tar of one or of "docker save", through a proxy')
    .option(
      '--proxy <url>',
      `registry endpoint to push to (default: the reference's own host if it is this machine's, else ${DEFAULT_PROXY})`,
      urlOption('--proxy'),
    )
    .option(
      '--source-tag <tag>',
      'which image of a layout or archive of several (default: the tag of <ref>)',
    );
  addCredentialOptions(command).action(
    async (path: string, ref: string, flags: CredentialFlags & { proxy?: string; sourceTag?: string }) => {
      const target = parseImageReference(ref);
      if (target.reference.includes(':'))
        throw new CodedError('REQUEST_INVALID', { message: `${ref}: a push needs a tag, not a digest` });
      const isHere = target.host !== undefined && isThisMachine(target.host);
      const url = flags.proxy ?? (isHere ? `http://${target.host}` : DEFAULT_PROXY);
      const repository =
        isHere || target.host === undefined ? target.repository : `${target.host}/${target.repository}`;
      const credentials = credentialsFor(new URL(url).host, flags, process.env);
      const hint = 'is a cluster running? name another proxy with --proxy URL';
      const client = new RegistryClient({ dispatcher: createDispatcher() }, { url, credentials, hint });
      const startedMs = performance.now();
      const image = await loadImage(await openArchive(path), {
        tag: flags.sourceTag ?? target.reference,
        isDemanded: flags.sourceTag !== undefined,
      });
      const digest = await pushImage(
        client,
        repository,
        target.reference,
        image,
        new Transfers(process.stdout),
      );
      process.stdout.write(
        `pushed ${repository}:${target.reference}@${digest} in ${durationText(performance.now() - startedMs)}\n`,
      );
    },
  );
}

/** Sends blobs, then manifests; the last manifest gets the tag. @returns its digest */
export async function pushImage(
  client: RegistryClient,
  repository: string,
  tag: string,
  image: ImageToPush,
  transfers: Transfers,
): Promise<string> {
  for (const blob of image.blobs) {
    const transfer = transfers.start(blob.digest.slice(0, 19), blob.sizeBytes);
    const isNew = await client.pushBlob(repository, watched(blob, transfer));
    transfer.end(isNew ? undefined : 'was there already');
  }
  let digest = '';
  for (const [index, manifest] of image.manifests.entries()) {
    const reference = index === image.manifests.length - 1 ? tag : manifest.digest;
    digest = await client.pushManifest(repository, reference, manifest.bytes, manifest.mediaType);
  }
  return digest;
}

/** The blob with its bytes counted as they are read. */
function watched(blob: BlobSource, transfer: Transfer): BlobSource {
  const open = (): Readable => {
    const counter = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        transfer.add(chunk.length);
        done(null, chunk);
      },
    });
    // A failure of either end destroys the other; the request sees it as the failure of its body.
    return pipeline(blob.open(), counter, () => undefined);
  };
  return { ...blob, open };
}
