import { homedir } from 'node:os';
import t from 'tap';
import { defaultWorkDir } from '../../src/convert/run-convert.ts';
import { homeFolder } from '../../src/options/home-folder.ts';

t.test('a user that the system does not know has no home, and that is no error', async (t) => {
  t.equal(homeFolder(), homedir());
  const unknown = () => {
    throw Object.assign(new Error('uv_os_homedir returned ENOENT'), { code: 'ERR_SYSTEM_ERROR' });
  };
  t.equal(homeFolder(unknown), undefined);
  const wrong = () => {
    throw new TypeError('wrong');
  };
  t.throws(() => homeFolder(wrong), TypeError);
});

t.test('who has none is told to say where layers may be worked on', async (t) => {
  t.equal(
    defaultWorkDir({}, () => '/home/me'),
    '/home/me/.cache/sepia/convert',
  );
  t.equal(
    defaultWorkDir({ XDG_CACHE_HOME: '/cache' }, () => undefined),
    '/cache/sepia/convert',
  );
  t.throws(() => defaultWorkDir({ XDG_CACHE_HOME: '' }, () => undefined), {
    code: 'CONFIG_INVALID',
    message: /give --work-dir, or set HOME or XDG_CACHE_HOME/,
  });
});
