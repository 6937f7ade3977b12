import t from 'tap';
import { repositoryOnDisk, tagKey } from '../../src/store/record-store.ts';

t.test('the bytes of keys on disk stay as they are', async (t) => {
  t.equal(repositoryOnDisk('harbor', 'team/app'), 'harbor/team/app');
  t.equal(tagKey('harbor', 'team/app', 'v1'), 'tag\0harbor/team/app\0v1');
});
