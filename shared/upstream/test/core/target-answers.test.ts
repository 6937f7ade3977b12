import { CodedError, type ErrorCode } from '@sepia/base/errors';
import t from 'tap';
import { isRefusedMount, isTooLarge, mayResume } from '../../src/core/target-answers.ts';

function answered(code: ErrorCode, status?: number): CodedError {
  return new CodedError(code, { detail: status === undefined ? {} : { status } });
}

t.test('what was cut, or stands elsewhere, is gone on with', async (t) => {
  for (const error of [
    answered('BACKEND_DOWN'),
    answered('BACKEND_DOWN', 503),
    answered('RANGE_INVALID', 416),
  ])
    t.ok(mayResume(error), error.code);
  for (const error of [answered('BACKEND_DOWN', 501), answered('UPSTREAM_DENIED', 403), new Error('x')])
    t.notOk(mayResume(error), String(error));
});

t.test('a body that is too large is known by its status', async (t) => {
  t.ok(isTooLarge(answered('UPSTREAM_DENIED', 413)));
  t.notOk(isTooLarge(answered('UPSTREAM_DENIED', 403)));
  t.notOk(isTooLarge(new Error('413')));
});

t.test('a mount that was answered without being done is an upload, a silent registry is none', async (t) => {
  for (const error of [
    answered('UPSTREAM_DENIED', 401),
    answered('REPOSITORY_UNKNOWN', 404),
    answered('BACKEND_DOWN', 500),
  ])
    t.ok(isRefusedMount(error), error.code);
  for (const error of [answered('BACKEND_DOWN'), answered('UPSTREAM_LIMITED', 429), new Error('x')])
    t.notOk(isRefusedMount(error), String(error));
});
