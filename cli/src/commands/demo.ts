import { CodedError, isCoded } from '@sepia/base/errors';
import { runService } from '@sepia/base/process';
import type { Command } from 'commander';
import { Demo } from '../demo/demo.ts';

/** `sepia demo`. */
export function addDemo(program: Command): void {
  program
    .command('demo')
    .description('see it work: a cluster, one image, five nodes that pull it at once')
    .option(
      '--once',
      'end after the table; exit 0 only if every digest was right and half of the bytes came from peers',
      false,
    )
    .action(async (flags: { once: boolean }) => {
      const demo = new Demo(process.stdout);
      await runService('demo', async () => {
        void show(demo, flags.once);
        return { stop: async () => await stopped(demo, flags.once) };
      });
    });
}

/** A signal ends it. @throws {CodedError} `DRAINING` with `--once`, which promises a table and has shown none */
export async function stopped(demo: Pick<Demo, 'stop'>, once: boolean): Promise<void> {
  await demo.stop();
  if (once) throw new CodedError('DRAINING', { message: 'ended by a signal before the table was there' });
}

async function show(demo: Demo, once: boolean): Promise<void> {
  let exitCode: number;
  try {
    const passed = await demo.run();
    if (demo.isStopping) return;
    if (!once) {
      process.stdout.write(`${demo.hints()}\n`);
      return;
    }
    exitCode = passed ? 0 : 1;
  } catch (error) {
    if (demo.isStopping) return;
    process.stderr.write(
      `sepia demo: ${isCoded(error) ? `${error.code}: ${error.message}` : ((error as Error).stack ?? String(error))}\n`,
    );
    exitCode = isCoded(error) ? 2 : 1;
  }
  await demo.stop();
  process.exit(exitCode);
}
