"""Ask whether what is in lock/ has known vulnerabilities: `make audit`, with pip-audit.

    make audit      # ends with 1 if there are any, 2 if nothing answered

What could not be asked is no good news: where a service is not reached, or knows nothing of a
package, it ends with 2 and says so.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
# Each names a package once, as pip-audit wants it; the locks have the versions of the first.
LISTS = (PROJECT / "constraints.txt", PROJECT / "lock/supply.txt")
TIMEOUT_S = 30


def ask(service: str) -> list[dict[str, Any]] | str:
    """Return what pip-audit found of each package, or why it could not."""
    command = [str(Path(sys.executable).with_name("pip-audit")), "--vulnerability-service", service]
    command += ["--disable-pip", "--no-deps", "--timeout", str(TIMEOUT_S)]
    command += ["--format", "json", "--progress-spinner", "off"]
    found = []
    for path in LISTS:
        said = subprocess.run([*command, "-r", str(path)], capture_output=True, text=True)
        try:
            found += json.loads(said.stdout)["dependencies"]
        except ValueError:
            *_, last = said.stderr.strip().splitlines() or ["it said nothing"]
            return last[:160]
    return found


def judge(service: str, found: list[dict[str, Any]] | str) -> tuple[int, list[str]]:
    """Return an exit code and what to print.

    >>> one = {"name": "a", "version": "2", "vulns": []}
    >>> two = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
    >>> judge("osv", [one])
    (0, ['1 packages, no known vulnerability (osv)'])
    >>> judge("osv", [one, two])
    (1, ['b 2: PYSEC-1, fixed in 3', '2 packages, 1 known vulnerabilities (osv)'])
    >>> judge("osv", [one, {"name": "c", "skip_reason": "no"}])
    (2, ['osv answered for 1 of 2 packages, not for c: nothing is known of those'])
    >>> judge("osv", "ConnectionError: no route")
    (2, ['osv gave no answer, nothing was checked: ConnectionError: no route'])
    """
    if isinstance(found, str):
        return 2, [f"{service} gave no answer, nothing was checked: {found}"]
    known = [(package, each) for package in found for each in package.get("vulns", [])]
    lines = [
        f"{package['name']} {package['version']}: {each['id']}, fixed in "
        f"{' or '.join(each['fix_versions']) or 'no version yet'}"
        for package, each in known
    ]
    silent = [each["name"] for each in found if "skip_reason" in each]
    if silent:
        which = ", ".join(silent[:3]) + ("" if len(silent) <= 3 else " and others")
        asked = f"{service} answered for {len(found) - len(silent)} of {len(found)} packages"
        return 2, [*lines, f"{asked}, not for {which}: nothing is known of those"]
    of = f"{len(known)} known vulnerabilities" if known else "no known vulnerability"
    return int(bool(known)), [*lines, f"{len(found)} packages, {of} ({service})"]


def main() -> int:
    """Ask PyPI and, where it does not answer for all, OSV; print the answer, or why none came."""
    code, lines = judge("pypi", ask("pypi"))
    if code == 2:
        code, more = judge("osv", ask("osv"))
        lines = lines + more if code == 2 else more
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
