import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** Keys whose values never reach a log, at any of the depths at which objects are logged here. */
const SECRETS = ['authorization', 'password', 'token', 'access_token', '["sepia-upstream-authorization"]'];
const SECRET_PATHS = SECRETS.flatMap((key) => {
  const tail = key.startsWith('[') ? key : `.${key}`;
  return [key, `*${tail}`, `*.headers${tail}`, `*.*${tail}`];
});

/** A process's logger: JSON lines on standard output, or to `sink`; `service` and `member` on each. */
export function createLogger(
  service: string,
  member: string,
  level: LogLevel,
  sink: DestinationStream = pino.destination(1),
): Logger {
  const options = {
    level,
    base: { service, member },
    formatters: { level: (label: string) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: { paths: SECRET_PATHS, censor: '[secret]' },
  };
  return pino(options, sink);
}

/** A logger that says nothing, for tests and tools. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
