import { spawn } from 'node:child_process';
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

const SUITES = join(import.meta.dirname, '..', 'suites');
const PACKAGE = 'github.com/opencontainers/distribution-spec/conformance';
/** A machine that has none of the modules yet downloads and compiles them. */
const BUILD_MS = 10 * 60_000;
const RUN_MS = 3 * 60_000;

/** What a run counted, and which checks failed. */
export interface Verdict {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly failures: readonly string[];
  /** Why checks were skipped, once each. */
  readonly skips: readonly string[];
  /** Everything that the suite printed, for when it fails. */
  readonly output: string;
}

/** The two generations of the OCI conformance suite, built from pinned versions with the machine's Go. */
export class Suites {
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  /** Builds both below `dir`. Rejects with Go's own words where that fails, or where there is no Go. */
  static async build(dir: string): Promise<Suites> {
    const version = await run('go', ['version'], {}, dir, BUILD_MS).catch((cause: unknown) => {
      throw new Error('the conformance suites are Go programs: install Go 1.24 or newer', { cause });
    });
    if (version.code !== 0) throw new Error(`go version: ${version.output}`);
    await Promise.all([build(dir, 'workflows', ['test', '-c']), build(dir, 'program', ['build'])]);
    return new Suites(dir);
  }

  /** Runs the four workflow categories, or only Pull with what `env` names. `url` as `http://host:port`. */
  async workflows(name: string, url: string, env: Readonly<Record<string, string>>): Promise<Verdict> {
    const folder = this.#folder(name);
    const { code, output } = await run(
      join(this.#dir, 'workflows.bin'),
      [],
      { OCI_ROOT_URL: url, OCI_REPORT_DIR: folder, OCI_DEBUG: '0', OCI_HIDE_SKIPPED_WORKFLOWS: '0', ...env },
      folder,
      RUN_MS,
    );
    return workflowsVerdict(code, plain(output));
  }

  /** Runs the newer program against `host:port`. */
  async program(name: string, url: string, env: Readonly<Record<string, string>>): Promise<Verdict> {
    const folder = this.#folder(name);
    const { output } = await run(
      join(this.#dir, 'program.bin'),
      [],
      { OCI_REGISTRY: new URL(url).host, OCI_TLS: 'disabled', OCI_RESULTS_DIR: folder, ...env },
      folder,
      RUN_MS,
    );
    return programVerdict(output);
  }

  #folder(name: string): string {
    const folder = join(this.#dir, name);
    mkdirSync(folder, { recursive: true });
    return folder;
  }
}

/** Ginkgo's closing line `74 Passed | 0 Failed | 0 Pending | 5 Skipped`. @throws when the suite did not come to it */
export function workflowsVerdict(code: number, output: string): Verdict {
  const counts = /(\d+) Passed \| (\d+) Failed \| \d+ Pending \| (\d+) Skipped/.exec(output);
  if (counts === null) throw new Error(`the suite gave no result (exit ${code})\n${output.slice(-4_000)}`);
  const failures = [...output.matchAll(/^\s*\[FAIL\] (.*)$/gm)].map((found) => found[1]!.trim());
  const [passed, failed, skipped] = counts.slice(1).map(Number) as [number, number, number];
  if (failed === 0 && code !== 0)
    throw new Error(`exit ${code} without a failed check\n${output.slice(-4_000)}`);
  return { passed, failed, skipped, failures: [...new Set(failures)], skips: [], output };
}

/**
 * The counts below `OCI Conformance Result:`. The exit code says nothing: the program ends with 0 when it could not
 * write its reports although checks failed, and with 2 when it crashes over them after all had passed.
 * @throws when the program did not come to its result
 */
export function programVerdict(output: string): Verdict {
  const at = output.indexOf('OCI Conformance Result:');
  if (at === -1) throw new Error(`the program gave no result\n${output.slice(-4_000)}`);
  const count = (name: string): number => {
    const found = new RegExp(`^ {2}${name}\\.*: +(\\d+)$`, 'm').exec(output.slice(at));
    if (found === null) throw new Error(`no count of ${name}\n${output.slice(at, at + 1_000)}`);
    return Number(found[1]);
  };
  const lines = output.slice(0, at).split('\n');
  const failures = lines.filter((line) => /: (?:FAIL|Error)$/.test(line)).map((line) => line.trim());
  const skips = lines.flatMap((line, index) =>
    line.endsWith(': Skip') ? [`${line.trim()} ${lines[index + 1]?.trim() ?? ''}`] : [],
  );
  return {
    passed: count('Pass'),
    failed: count('FAIL') + count('Error'),
    skipped: count('Skip') + count('Disabled'),
    failures,
    skips,
    output,
  };
}

async function build(dir: string, name: string, verb: readonly string[]): Promise<void> {
  const module = join(dir, `${name}-module`);
  cpSync(join(SUITES, name), module, { recursive: true });
  const args = [...verb, '-mod=readonly', '-o', join(dir, `${name}.bin`), PACKAGE];
  const { code, output } = await run('go', args, {}, module, BUILD_MS);
  if (code !== 0) throw new Error(`go ${args.join(' ')} failed:\n${output.slice(-4_000)}`);
}

async function run(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  cwd: string,
  deadlineMs: number,
): Promise<{ code: number; output: string }> {
  return await new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    const keep = (chunk: Buffer): void => {
      output += chunk.toString('utf8');
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    const late = setTimeout(() => child.kill('SIGKILL'), deadlineMs);
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(late);
      if (signal !== null) reject(new Error(`${command} ended by ${signal}\n${output.slice(-4_000)}`));
      else resolve({ code: code ?? 1, output });
    });
  });
}

/** Without the colours that Ginkgo writes whether or not somebody sees them. */
function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one
  return text.replaceAll(/\u001b\[[0-9;]*m/g, '');
}
