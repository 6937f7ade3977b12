import { join, resolve } from 'node:path';
import { createDispatcher } from '@sepia/http/sockets';
import { type VerifiedLayer, verifyImage } from '@sepia/lazy/convert/verify-image';
import { ScratchFile, sweepScratch } from '@sepia/store/scratch/scratch';
import type { Command } from 'commander';
import { sourcePlace } from '../../convert/place.ts';
import { defaultWorkDir, openSource } from '../../convert/run-convert.ts';
import { urlOption } from '../../options/option-values.ts';
import { platformOption } from '../../options/platform-option.ts';
import { addCredentialOptions, type CredentialFlags } from '../../registry/credentials.ts';
import { bytesText } from '../../terminal/format.ts';
import { DEFAULT_PROXY } from './convert.ts';

interface VerifyFlags extends CredentialFlags {
  readonly platform?: string[];
  readonly sourceTag?: string;
  readonly proxy?: string;
  readonly plainHttp?: boolean;
  readonly workDir?: string;
  readonly json?: boolean;
}

/** `sepia lazy verify`. */
export function addVerify(lazy: Command): void {
  const command = lazy
    .command('verify <ref>')
    .description(
      'check every byte, chunk and entry of the converted layers (eStargz, zstd:chunked, Nydus) of an image; exit 1 if one is wrong or none is converted, 2 if the image could not be read',
    )
    .option(
      '--platform <os/arch>',
      'verify this platform only; may be given again (default: all)',
      platformOption,
    )
    .option('--source-tag <tag>', 'which image of a layout or archive of several')
    .option('--proxy <url>', 'read through this proxy of a cluster', urlOption('--proxy'))
    .option('--plain-http', 'speak to registries of other machines without TLS')
    .option('--work-dir <dir>', 'where layers are kept while they are looked at (default: the cache folder)')
    .option('--json', 'print the result as JSON');
  addCredentialOptions(command).action(async (ref: string, flags: VerifyFlags) => await verify(ref, flags));
}

async function verify(ref: string, flags: VerifyFlags): Promise<void> {
  const place = sourcePlace(ref, {
    proxy: flags.proxy,
    defaultProxy: DEFAULT_PROXY,
    plainHttp: flags.plainHttp,
    sourceTag: flags.sourceTag,
  });
  const folder = join(resolve(flags.workDir ?? defaultWorkDir(process.env)), 'work');
  await sweepScratch(folder);
  const { source, reference, tocImage } = await openSource(place, flags, createDispatcher());
  const onLayer = (layer: VerifiedLayer): void => {
    if (flags.json !== true) process.stdout.write(layerText(layer));
  };
  const layers = await verifyImage(
    { source, scratch: () => ScratchFile.create(folder), tocImage, onLayer },
    reference,
    flags.platform,
  );
  const wrong = layers.filter((layer) => layer.state === 'wrong').length;
  const right = layers.filter((layer) => layer.state === 'right').length;
  if (flags.json === true)
    process.stdout.write(`${JSON.stringify({ reference: ref, layers, wrong, right })}\n`);
  else
    process.stdout.write(
      `${right} layers are right, ${wrong} wrong, ${layers.length - right - wrong} not converted\n`,
    );
  if (wrong > 0 || right === 0) process.exitCode = 1;
}

function layerText({ digest, sizeBytes, platform, state, findings, entries, chunks }: VerifiedLayer): string {
  const where = platform === undefined ? '' : `  ${platform}`;
  const what = state === 'ordinary' ? 'not converted' : `${state}: ${entries} entries, ${chunks} chunks`;
  const lines = findings.map(({ check, message }) => `    ${check}: ${message}\n`);
  return `  ${digest}  ${bytesText(sizeBytes)}${where}  ${what}\n${lines.join('')}`;
}
