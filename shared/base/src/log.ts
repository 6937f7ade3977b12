import { type DestinationStream, type Logger, pino } from 'pino';
import { LogSink, openedFile } from './log-sink.ts';

export type { Logger } from 'pino';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** Keys whose values never reach a log, at any of the depths at which objects are logged here. */
const SECRETS = ['authorization', 'password', 'token', 'access_token', '["sepia-upstream-authorization"]'];
const SECRET_PATHS = SECRETS.flatMap((key) => {
  const tail = key.startsWith('[') ? key : `.${key}`;
  return [key, `*${tail}`, `*.headers${tail}`, `*.*${tail}`];
});

let standardOutput: LogSink | undefined;

/** One for all loggers of the process, so that their lines never mix. */
function toStandardOutput(): LogSink {
  if (standardOutput !== undefined) return standardOutput;
  const sink = new LogSink(openedFile(1));
  process.on('exit', () => sink.flushSync());
  standardOutput = sink;
  return sink;
}

/**
 * A process's logger: JSON lines on standard output, or to `sink`; `service` and `member` on each. Lines that cannot be
 * written, as on a full disk, are lost: the log says how many once it can be written again.
 */
export function createLogger(
  service: string,
  member: string,
  level: LogLevel,
  sink: DestinationStream = toStandardOutput(),
): Logger {
  const options = {
    level,
    base: { service, member },
    formatters: { level: (label: string) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: { paths: SECRET_PATHS, censor: '[secret]' },
  };
  const log = pino(options, sink);
  if (sink instanceof LogSink)
    sink.onRoom = (lost) => log.warn({ lost }, 'log lines were lost: the log could not be written');
  return log;
}

/** A logger that writes nothing at any level, for tests and tools. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
