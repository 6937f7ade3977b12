import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type ConvertFormat, FORMATS } from '@sepia/lazy/convert/layer-job';
import { COMPRESSION_LEVELS } from '@sepia/oci/compression-levels';
import { writeBigImage } from '@sepia/test-support/big/big-image';
import { MemoryGroup } from '@sepia/test-support/big/memory-group';
import { GIB, MIB, round } from './support/figures.ts';
import { startRegistry } from './support/loopback.ts';
import { cpuSeconds, IdleMeter, quietMachine } from './support/machine.ts';
import { runBench } from './support/run.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Nobody comes near it: the group is there to measure. */
const ROOM_BYTES = 16 * GIB;
const LIMIT_MS = 1_200_000;
/** What the processes of a shell used until now: its own line, then that of its children. */
const TIMES = /(\d+)m([\d.]+)s (\d+)m([\d.]+)s\s*$/;

interface Row {
  readonly cpuSeconds: number;
  readonly seconds: number;
  readonly ownMiB: number;
  readonly layerMiB?: number;
}

/** Runs a command in a group that measures it. */
async function measured(command: readonly string[]): Promise<Row & { readonly stdout: string }> {
  const group = MemoryGroup.create('sepia-convert', ROOM_BYTES);
  if (typeof group === 'string') throw new Error(group);
  try {
    const shell = ['sh', '-c', '"$@"; code=$?; times >&2; exit $code', 'sh', ...command];
    const run = await group.run(shell, { UV_THREADPOOL_SIZE: undefined }, LIMIT_MS);
    if (run.code !== 0) throw new Error(`${command.join(' ')}: ${run.stdout}${run.stderr}`);
    const [, userM, user, systemM, system] = TIMES.exec(run.stderr)!.map(Number);
    const cpu = 60 * (userM! + systemM!) + user! + system!;
    return {
      stdout: run.stdout,
      ...{ cpuSeconds: round(cpu, 1), seconds: round(run.seconds, 1), ownMiB: round(run.ownBytes / MIB, 0) },
    };
  } finally {
    group.remove();
  }
}

/** `sepia convert` from layout to layout. */
async function bySepia(dir: string, format: ConvertFormat, level: number): Promise<Row> {
  const [source, target, work] = ['source', 'result', 'work'].map((name) => join(dir, name));
  const how = ['--to', format, '--level', String(level), '--json', '--work-dir', work!];
  const { stdout, ...row } = await measured([join(ROOT, 'sepia'), 'convert', source!, target!, ...how]);
  for (const folder of [target!, work!]) rmSync(folder, { recursive: true, force: true });
  const { sizeBytes } = JSON.parse(stdout) as { sizeBytes: { after: number } };
  return { ...row, layerMiB: round(sizeBytes.after / MIB, 1) };
}

/** Stargz-snapshotter's own library, from file to file. */
async function byGo(program: string, layer: string, dir: string, level: number): Promise<Row> {
  const out = join(dir, 'go-result');
  const { stdout, ...row } = await measured([program, '-level', String(level), '-in', layer, '-out', out]);
  rmSync(out);
  const { sizeBytes } = JSON.parse(stdout) as { sizeBytes: number };
  return { ...row, layerMiB: round(sizeBytes / MIB, 1) };
}

await runBench({
  id: 'convert',
  claim:
    'CPU, memory, time and size of converting a layer of 1 GiB; eStargz beside the estargz library of ctr-remote (L8)',
  options: { gib: 1, rounds: 1 },
  run: async ({ dir, stops, number, say }) => {
    const program = execFileSync(join(import.meta.dirname, 'support/estargz/estargz.sh'), {
      encoding: 'utf8',
    }).trim();
    const source = join(dir, 'source');
    mkdirSync(source);
    await writeBigImage(source, {
      tarBytes: Math.floor(number('gib') * GIB),
      sparseBytes: 0,
      compression: 'gzip',
    });
    const layer = layerOf(source);
    const registry = await startRegistry(stops, dir);
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    const level = COMPRESSION_LEVELS.estargz.usual;
    const rows: { readonly name: string; readonly run: () => Promise<Row> }[] = [
      { name: `estargz level ${level}`, run: () => bySepia(dir, 'estargz', level) },
      { name: `estargz library level ${level}`, run: () => byGo(program, layer, dir, level) },
      ...FORMATS.filter((one) => one !== 'estargz').map((format) => ({
        name: `${format} level ${COMPRESSION_LEVELS[format].usual}`,
        run: () => bySepia(dir, format, COMPRESSION_LEVELS[format].usual),
      })),
    ];
    const found: Record<string, Row[]> = {};
    for (let round = 0; round < number('rounds'); round += 1)
      for (const { name, run } of rows) {
        const row = await run();
        say(`${name}: ${JSON.stringify(row)}`);
        found[name] = [...(found[name] ?? []), row];
      }
    const before = cpuSeconds(registry.pid);
    const copy = ['skopeo', 'copy', '--dest-tls-verify=false', `oci:${source}:latest`];
    const { stdout: _, ...push } = await measured([...copy, `docker://127.0.0.1:${registry.port}/big:1`]);
    const cpu = (name: string): number => Math.min(...found[name]!.map((row) => row.cpuSeconds));
    return {
      ...found,
      'push to docker-registry (skopeo)': {
        ...push,
        registryCpuSeconds: round(cpuSeconds(registry.pid) - before, 1),
      },
      L8: round(cpu(rows[0]!.name) / cpu(rows[1]!.name), 2),
      idleBeforePercent: quiet,
      idlePercent: meter.percent(),
    };
  },
});

/** The blob of the one layer of a layout. */
function layerOf(layout: string): string {
  const read = (path: string): { manifests: Part[]; layers: Part[] } =>
    JSON.parse(readFileSync(path, 'utf8')) as { manifests: Part[]; layers: Part[] };
  const blob = ({ digest }: Part): string => join(layout, 'blobs', digest.replace(':', '/'));
  const { manifests } = read(join(layout, 'index.json'));
  return blob(read(blob(manifests[0]!)).layers[0]!);
}

interface Part {
  readonly digest: string;
}
