import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { filesOf } from '@sepia/cluster/core/path-line';
import { FORMATS, layerDefaults, optionsFault } from '@sepia/lazy/convert/layer-job';
import { COMPRESSORS, type Compressor } from '@sepia/lazy/pack/unpack';
import { COMPRESSION_LEVELS } from '@sepia/oci/compression-levels';
import { type Command, Option } from 'commander';
import { summaryJson, summaryText } from '../../convert/convert-view.ts';
import { besideSource, placeText, sourcePlace, targetPlace } from '../../convert/place.ts';
import { defaultWorkDir, runConvert } from '../../convert/run-convert.ts';
import { recordedProfile } from '../../lazy/recorded-profile.ts';
import { DEFAULT_SNAPSHOTTER } from '../../lazy/snapshotter-status.ts';
import { type OperatorFlags, operatorOptions } from '../../operator/operator.ts';
import { helpBelow } from '../../options/help-text.ts';
import { urlOption, wholeNumber } from '../../options/option-values.ts';
import { platformOption } from '../../options/platform-option.ts';
import { addCredentialOptions, type CredentialFlags } from '../../registry/credentials.ts';
import { DEFAULT_PORTS_FROM, HOST } from '../../up/plan.ts';
import { makeIndex } from './lazy-index.ts';

/** The proxy that names without a host are looked up at. */
export const DEFAULT_PROXY = `http://${HOST}:${DEFAULT_PORTS_FROM + 300}`;
const EXIT_INTERRUPTED = 130;
const MAX_THREADS = 256;

/** Nothing is converted: the image starts lazily as it is. */
const INDEX = 'index';

interface Flags extends CredentialFlags, OperatorFlags {
  readonly to: (typeof FORMATS)[number] | typeof INDEX;
  readonly platform?: string[];
  readonly prioritize?: string;
  readonly profile?: string;
  readonly admin: string;
  readonly level?: number;
  readonly compressor?: Compressor;
  readonly chunkSize?: number;
  readonly minChunkSize: number;
  readonly externalToc?: boolean;
  readonly sourceTag?: string;
  readonly proxy?: string;
  readonly plainHttp?: boolean;
  readonly workDir?: string;
  readonly threads?: number;
  readonly replace?: boolean;
  readonly json?: boolean;
}

/** `sepia convert`. */
export function addConvert(program: Command): void {
  const command = program
    .command('convert <src> [dst]')
    .description('convert an image so that containers start before it is downloaded')
    .addOption(
      new Option(
        '--to <format>',
        'what to convert to; index: nothing is converted, as by "sepia lazy index SRC [--out DST]"',
      )
        .choices([...FORMATS, INDEX])
        .default('estargz'),
    )
    .option(
      '--platform <os/arch>',
      'convert this platform only; may be given again (default: all)',
      platformOption,
    )
    .option('--prioritize <file>', 'file with paths, one a line, that a container reads first')
    .option(
      '--profile <ref>',
      'image whose starts on this node were recorded: what they read comes first, behind --prioritize (see "sepia lazy profile")',
    )
    .option('--admin <url>', ADMIN_HELP, urlOption('--admin'), DEFAULT_SNAPSHOTTER)
    .option('--level <n>', LEVEL_HELP, wholeNumber('--level'))
    .addOption(
      new Option('--compressor <name>', 'of the chunks of a Nydus image (default: zstd)').choices(
        COMPRESSORS,
      ),
    )
    .option('--chunk-size <bytes>', CHUNK_HELP, wholeNumber('--chunk-size'))
    .option(
      '--min-chunk-size <bytes>',
      'put small files together up to this size',
      wholeNumber('--min-chunk-size'),
      0,
    )
    .option('--external-toc', 'keep the tables of contents in an image of their own, DST-esgztoc')
    .option('--source-tag <tag>', 'which image of a layout or archive of several')
    .option('--proxy <url>', 'read and write through this proxy of a cluster', urlOption('--proxy'))
    .option('--plain-http', 'speak to registries of other machines without TLS')
    .option('--work-dir <dir>', 'layers in work, and what was done so far (default: the cache folder)')
    .option(
      '--threads <n>',
      'compression threads (default: one per core, fewer where memory is short)',
      wholeNumber('--threads', 1, MAX_THREADS),
    )
    .option('--replace', 'the result may take the place of its source, or of a tar that is there')
    .option('--json', 'print the result as JSON');
  helpBelow(command, HELP);
  operatorOptions(addCredentialOptions(command)).action(
    async (src: string, dst: string | undefined, flags: Flags) => {
      const { to } = flags;
      if (to === INDEX) await index(src, dst, flags);
      else await convert(src, dst, { ...flags, to });
    },
  );
}

/** Options that say how a layer is written: an index has none of them. */
const OF_CONVERSIONS = [
  'platform',
  'prioritize',
  'profile',
  'level',
  'compressor',
  'chunkSize',
  'externalToc',
  'sourceTag',
  'replace',
] as const satisfies readonly (keyof Flags)[];

async function index(src: string, dst: string | undefined, flags: Flags): Promise<void> {
  const idle = OF_CONVERSIONS.find((name) => flags[name] !== undefined);
  if (idle !== undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `--to index: nothing is converted, so --${idle.replace(/[A-Z]/g, (one) => `-${one.toLowerCase()}`)} means nothing`,
    });
  const { proxy } = flags;
  await makeIndex(src, {
    ...flags,
    spanMib: 1,
    ...(dst === undefined ? {} : { out: dst }),
    ...(proxy === undefined ? {} : { agent: proxy }),
  });
}

const ADMIN_HELP = 'admin address of the snapshotter that --profile asks';

const LEVEL_HELP = `compression: ${FORMATS.map((format) => {
  const { least, most, usual } = COMPRESSION_LEVELS[format];
  return `${format} ${least} to ${most} (${usual})`;
}).join(
  ', ',
)}; nydus with --compressor gzip ${COMPRESSION_LEVELS.estargz.least} to ${COMPRESSION_LEVELS.estargz.most}`;

const CHUNK_HELP = `longest chunk of a file (default: ${FORMATS.map(
  (format) => `${format} ${layerDefaults(format).chunkBytes}`,
).join(', ')})`;

const HELP = [
  `SRC is an image of a registry, an OCI layout folder, or a tar of one or of "docker save". DST is an image with a tag, a folder (./DIR) or a tar (FILE.tar); without it the result gets SRC's tag with "-estargz" (or what else it was made to) behind it.`,
  "A folder that is an OCI layout keeps its other images: only that of the result's tag is replaced.",
  'Names with a host are read from that registry; names without one from the proxy of a local cluster.',
  'Stopped by ^C or otherwise, the same command goes on where it was; only a tar is begun again.',
];

type ConvertFlags = Flags & { readonly to: (typeof FORMATS)[number] };

async function convert(src: string, dst: string | undefined, flags: ConvertFlags): Promise<void> {
  const where = {
    proxy: flags.proxy,
    defaultProxy: DEFAULT_PROXY,
    plainHttp: flags.plainHttp,
    sourceTag: flags.sourceTag,
  };
  const source = sourcePlace(src, where);
  const target = dst === undefined ? besideSource(source, `-${flags.to}`) : targetPlace(dst, where);
  const stop = new AbortController();
  const isTar = target.kind === 'disk' && target.isTar;
  const goesOn = isTar ? 'begins again, for the target is a tar' : 'goes on where it was';
  const onSignal = (): void =>
    stop.abort(new CodedError('DRAINING', { message: `stopped; the same command ${goesOn}` }));
  const options = optionsOf(flags, await prioritizedOf(flags));
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  const startedMs = performance.now();
  try {
    const result = await runConvert({
      source,
      target,
      options,
      credentials: flags,
      replace: flags.replace,
      workDir: resolve(flags.workDir ?? defaultWorkDir(process.env)),
      threads: flags.threads,
      out: flags.json === true ? undefined : process.stdout,
      signal: stop.signal,
    });
    const ms = performance.now() - startedMs;
    process.stdout.write(
      flags.json === true
        ? summaryJson(result, placeText(source), placeText(target), ms)
        : summaryText(result, placeText(target), ms),
    );
  } catch (error) {
    throwIfBug(error);
    if (!stop.signal.aborted) throw error;
    process.stderr.write(`sepia: ${(stop.signal.reason as Error).message}\n`);
    process.exitCode = EXIT_INTERRUPTED;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

/** Paths that come first, each once: those of the list, then those of the profile. */
async function prioritizedOf({ prioritize, profile, admin }: Flags): Promise<string[]> {
  const listed = prioritize === undefined ? [] : readList(prioritize);
  const read = profile === undefined ? [] : (await recordedProfile(profile, admin)).paths;
  return filesOf([...listed, ...read]);
}

function optionsOf(
  flags: ConvertFlags,
  prioritized: readonly string[],
): Parameters<typeof runConvert>[0]['options'] {
  const usual = layerDefaults(flags.to);
  const chunkBytes = flags.chunkSize ?? usual.chunkBytes;
  if (chunkBytes < 512)
    throw new CodedError('CONFIG_INVALID', { message: '--chunk-size: at least 512 bytes' });
  const options = {
    ...usual,
    level: flags.level ?? usual.level,
    chunkBytes,
    ...(flags.compressor === undefined ? {} : { compressor: flags.compressor }),
    minChunkBytes: flags.minChunkSize,
    externalToc: flags.externalToc === true,
    prioritized,
    platforms: flags.platform,
  };
  const fault = optionsFault(options);
  if (fault !== undefined) throw new CodedError('CONFIG_INVALID', { message: fault });
  return options;
}

/** Paths of a file, one a line; empty lines and lines that begin with `#` are left out. */
function readList(file: string): string[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', {
      message: `--prioritize: ${file} cannot be read (${systemCode(cause)})`,
      cause,
    });
  }
  // Editors of Windows begin a file with a mark.
  return text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .map((line) => line.replace(/\r$/, ''))
    .filter((line) => line.trim() !== '' && !line.startsWith('#'));
}
