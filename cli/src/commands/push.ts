import { CodedError } from '@sepia/base/errors';
import type { Command } from 'commander';
import { openArchive } from '../image/archive.ts';
import { loadImage } from '../image/load-image.ts';
import { pushImage } from '../image/push-image.ts';
import { urlOption } from '../options/option-values.ts';
import { commandClient } from '../registry/command-client.ts';
import { addCredentialOptions, type CredentialFlags } from '../registry/credentials.ts';
import { isThisMachine, parseImageReference } from '../registry/image-reference.ts';
import { durationText } from '../terminal/format.ts';
import { Transfers } from '../terminal/transfers.ts';
import { DEFAULT_PORTS_FROM, HOST } from '../up/plan.ts';

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
      const hint = 'is a cluster running? name another proxy with --proxy URL';
      const client = commandClient({ url, isMember: true, hint }, flags);
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
      if (digest !== image.manifests.at(-1)?.digest)
        process.stdout.write(
          `${path} lacks parts of its index: the only image that it holds is pushed alone\n`,
        );
      process.stdout.write(
        `pushed ${repository}:${target.reference}@${digest} in ${durationText(performance.now() - startedMs)}\n`,
      );
    },
  );
}
