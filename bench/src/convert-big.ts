import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { FORMATS } from '@sepia/lazy/convert/layer-job';
import { writeBigImage } from '@sepia/test-support/big/big-image';
import { convertBig } from '@sepia/test-support/big/convert-big';
import { GIB, MIB, round } from './support/figures.ts';
import { runBench } from './support/run.ts';

/** Longest conversion, and longest verification. */
const LIMIT_MS = 3_600_000;

/** `--nydus 0` leaves a format out. */
const EACH = Object.fromEntries(FORMATS.map((format) => [format, 1]));

await runBench({
  id: 'convert-big',
  claim: 'a layer of 10 GiB is converted in a cgroup of 300 MiB, to each format',
  options: { gib: 10, 'sparse-gib': 5, 'limit-mib': 300, 'verify-mib': 512, level: 1, gzip: 0, ...EACH },
  run: async ({ dir, number, say }) => {
    const source = join(dir, 'source');
    mkdirSync(source);
    const compression = number('gzip') === 0 ? 'zstd' : 'gzip';
    const [tarBytes, sparseBytes] = [Math.floor(number('gib') * GIB), Math.floor(number('sparse-gib') * GIB)];
    say('writing the image');
    const files = await writeBigImage(source, { tarBytes, sparseBytes, compression });
    const rows: Record<string, unknown> = {};
    for (const format of FORMATS.filter((one) => number(one) > 0)) {
      const [limitBytes, verifyBytes] = [number('limit-mib') * MIB, number('verify-mib') * MIB];
      const job = { source, files, dir, format, limitBytes, verifyBytes, limitMs: LIMIT_MS };
      const result = await convertBig({ ...job, level: number('level') });
      if (typeof result === 'string') throw new Error(result);
      const { convert, verify, wrong } = result;
      if (verify?.code !== 0 || wrong.length > 0)
        throw new Error(JSON.stringify({ format, convert, verify, wrong: wrong.slice(0, 10) }));
      rows[format] = {
        kind: result.kind,
        layerMiB: round(result.layerBytes / MIB, 1),
        convert: figures(convert),
        verify: figures(verify),
      };
      say(`${format}: ${JSON.stringify(rows[format])}`);
    }
    return {
      files: files.size,
      tarGiB: number('gib'),
      sparseGiB: number('sparse-gib'),
      compression,
      level: number('level'),
      limitMiB: number('limit-mib'),
      verifyMiB: number('verify-mib'),
      ...rows,
    };
  },
});

function figures(run: {
  readonly ownBytes: number;
  readonly chargedBytes: number;
  readonly killed: number;
  readonly cpuSeconds: number;
  readonly seconds: number;
}): Record<string, number> {
  return {
    ownMiB: round(run.ownBytes / MIB, 1),
    chargedMiB: round(run.chargedBytes / MIB, 1),
    killed: run.killed,
    cpuSeconds: round(run.cpuSeconds, 1),
    seconds: round(run.seconds, 1),
  };
}
