import { createLogger, type Logger, type LogLevel } from '@sepia/base/log';

/** A logger that keeps its lines, to be looked at; `SHOW_LOG=1` prints them as well. */
export class LogLines {
  readonly lines: Record<string, unknown>[] = [];
  readonly logger: Logger;

  constructor(level: LogLevel = 'info') {
    const show = process.env['SHOW_LOG'] !== undefined;
    const write = (line: string): void => {
      this.lines.push(JSON.parse(line) as Record<string, unknown>);
      if (show) process.stderr.write(line);
    };
    this.logger = createLogger('test', 'all', show ? 'debug' : level, { write });
  }

  /** Lines whose message matches. */
  matching(message: RegExp): Record<string, unknown>[] {
    return this.lines.filter((line) => message.test(String(line['msg'])));
  }

  has(message: RegExp): boolean {
    return this.matching(message).length > 0;
  }
}
