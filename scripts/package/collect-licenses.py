"""Collects the license texts of libtorch's libraries into scripts/package/licenses/.

    python3 scripts/package/collect-licenses.py TORCH_DIST_INFO MKL_DIST_INFO GCC_COPYRIGHT GPL3

TORCH_DIST_INFO: the .dist-info folder of a CPU wheel of torch; MKL_DIST_INFO: that of an unpacked wheel of mkl-include
(oneMKL is linked into libtorch_cpu); GCC_COPYRIGHT and GPL3: Debian's texts about libgomp.
"""

import hashlib
import sys
from pathlib import Path

torch, mkl, gcc, gpl = map(Path, sys.argv[1:5])
target = Path(__file__).resolve().parent / 'licenses'
target.mkdir(parents=True, exist_ok=True)


def write(name, parts):
    rule = '=' * 80
    texts = [f'{rule}\n{title}\n{rule}\n\n{text.strip()}\n' for title, text in parts]
    lines = [line.rstrip() for line in '\n'.join(texts).splitlines()]
    (target / name).write_text('\n'.join(lines) + '\n')


licenses = torch / 'licenses'
found = {}
for path in sorted(p for p in licenses.rglob('*') if p.is_file()):
    text = path.read_text(errors='replace')
    found.setdefault(hashlib.sha256(text.encode()).hexdigest(), (text, []))[1].append(
        str(path.relative_to(licenses).parent)
    )
third = [(', '.join('PyTorch' if n == '.' else n for n in names), text) for text, names in found.values()]
write('pytorch.txt', sorted(third, key=lambda part: part[0] != 'PyTorch'))

copyright = gcc.read_text()
start = copyright.index('GCC RUNTIME LIBRARY EXCEPTION')
end = copyright.index('consistent with the licensing of the Independent Modules.', start)
exception = copyright[start:end] + 'consistent with the licensing of the Independent Modules.'
write('libgomp.txt', [('GCC Runtime Library Exception', exception), ('GNU General Public License', gpl.read_text())])

third_party = next(mkl.parent.rglob('third-party-programs-oneMath.txt'))
write(
    'mkl.txt',
    [
        ('Intel oneAPI Math Kernel Library', (mkl / 'LICENSE.txt').read_text()),
        ('Third-party programs', third_party.read_text()),
    ],
)
