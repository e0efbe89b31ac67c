"""What a command ends with.

| code | |
|---|---|
| 0 | done |
| 1 | failed, such as data that are not there |
| 2 | the recipe or the command line is wrong |
| 3 | done, but images are quarantined |
| 130 | interrupted |
"""

DONE, FAILED, USAGE, QUARANTINED, INTERRUPTED = 0, 1, 2, 3, 130
