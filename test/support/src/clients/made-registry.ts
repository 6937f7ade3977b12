import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { systemCode } from '@sepia/base/errors';
import { freePort, quietly, startRegistry, TESTBED, testbed } from '../testbed.ts';

/** Made once for a clone: it takes longer than to run most tests that need it. */
const KEPT = resolve(import.meta.dirname, '../../../../node_modules/.cache/sepia-registries');

/** What a registry has when it starts: `python` is `t/python:oci` alone, `all` what `make-image.sh all` pushes. */
export type MadeImages = 'python' | 'all';

/** As `startRegistry`, with images of the test bed in it. */
export async function startMadeRegistry(
  t: { teardown(done: () => unknown): void },
  port: number,
  images: MadeImages,
): Promise<string> {
  return await startRegistry(t, port, await keptStorage(images));
}

/** The storage of a registry that has the images; made where it is not there yet. */
async function keptStorage(images: MadeImages): Promise<string> {
  const script = readFileSync(join(TESTBED, 'make-image.sh'));
  const kept = join(KEPT, `${images}-${createHash('sha256').update(script).digest('hex').slice(0, 16)}`);
  if (existsSync(kept)) return kept;
  mkdirSync(KEPT, { recursive: true });
  const dir = mkdtempSync('/tmp/sepia-made-');
  const registry = join(dir, 'registry');
  try {
    const port = await freePort();
    await testbed('registry.sh', ['start', registry, String(port)]);
    await push(images, dir, `127.0.0.1:${port}`);
    await quietly('registry.sh', ['stop', registry, '--keep']);
    const made = mkdtempSync(join(KEPT, 'new-'));
    cpSync(join(registry, 'data'), made, { recursive: true });
    take(made, kept);
  } finally {
    await quietly('registry.sh', ['stop', registry]);
    rmSync(dir, { recursive: true, force: true });
  }
  return kept;
}

async function push(images: MadeImages, dir: string, registry: string): Promise<void> {
  if (images === 'all') return void (await testbed('make-image.sh', ['all', registry]));
  await testbed('make-image.sh', ['python', join(dir, 'oci')]);
  await testbed('make-image.sh', ['push', `${join(dir, 'oci')}:python`, `${registry}/t/python:oci`]);
}

/** Whole or not at all, also where another test makes the same. */
function take(made: string, kept: string): void {
  try {
    renameSync(made, kept);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST'].includes(systemCode(error) ?? '')) throw error;
    rmSync(made, { recursive: true });
  }
}
