import { resolve } from 'node:path';
import type { Command } from 'commander';
import { LayoutWriter } from '../image/layout-writer.ts';
import { urlOption } from '../options/option-values.ts';
import { commandClient } from '../registry/command-client.ts';
import { addCredentialOptions, type CredentialFlags } from '../registry/credentials.ts';
import { type ImageReference, parseImageReference } from '../registry/image-reference.ts';
import { eachBlob, resolveImage } from '../registry/pull-image.ts';
import { sourceOf } from '../registry/pull-source.ts';
import type { RegistryClient } from '../registry/registry-client.ts';
import { bytesText, durationText, rateText } from '../terminal/format.ts';
import { Transfers } from '../terminal/transfers.ts';
import { DEFAULT_AGENT } from '../up/plan.ts';

/** `sepia pull`. */
export function addPull(program: Command): void {
  const command = program
    .command('pull <ref>')
    .description('pull an image through an agent and check every digest')
    .option(
      '--agent <url>',
      `registry endpoint to pull from (default: the reference's own host if it is this machine's, else ${DEFAULT_AGENT})`,
      urlOption('--agent'),
    )
    .option('--output <folder>', 'write it there as an OCI layout (without: read, checked and dropped)');
  addCredentialOptions(command).action(
    async (ref: string, flags: CredentialFlags & { agent?: string; output?: string }) => {
      const image = parseImageReference(ref);
      const source = sourceOf(image, flags.agent);
      const hint = 'is a cluster running? name another agent with --agent URL';
      const client = commandClient({ ...source, isMember: true, hint }, flags);
      await pull(client, image, flags.output);
    },
  );
}

async function pull(
  client: RegistryClient,
  image: ImageReference,
  output: string | undefined,
): Promise<void> {
  const startedMs = performance.now();
  const { manifests, blobs } = await resolveImage(client, image.repository, image.reference);
  const writer = output === undefined ? undefined : new LayoutWriter(resolve(output));
  const transfers = new Transfers(process.stdout);
  const top = manifests[0]!;
  process.stdout.write(`${image.repository}@${top.digest}  ${blobs.length} blobs\n`);
  for (const manifest of manifests) writer?.writeManifest(manifest);
  await eachBlob(blobs, async (blob, signal) => {
    const transfer = transfers.start(blob.digest.slice(0, 19), blob.sizeBytes);
    const file = await writer?.openBlob(blob.digest);
    try {
      await client.pullBlob(
        image.repository,
        blob,
        async (chunk) => {
          transfer.add(chunk.length);
          await file?.write(chunk);
        },
        signal,
      );
      await file?.keep();
    } finally {
      await file?.close();
    }
    transfer.end();
  });
  writer?.writeIndex([{ top, reference: image.reference }]);
  const sizeBytes = blobs.reduce((sum, blob) => sum + blob.sizeBytes, 0);
  const ms = performance.now() - startedMs;
  process.stdout.write(
    `${bytesText(sizeBytes)} in ${durationText(ms)} (${rateText(sizeBytes, ms)}), every digest is right\n`,
  );
}
