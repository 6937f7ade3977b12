import { isCoded } from '@sepia/base/errors';
import { buildProgram } from './program.ts';

const EXIT_REFUSED = 2;

try {
  await buildProgram().parseAsync(process.argv);
} catch (error) {
  const text = isCoded(error)
    ? `${error.code}: ${error.message}`
    : ((error as Error)?.stack ?? String(error));
  process.stderr.write(`sepia: ${text}\n`);
  process.exitCode = isCoded(error) ? EXIT_REFUSED : 1;
}
