"""Digests: equal for equal content, in every process."""

import subprocess
import sys

from pipeline import config


def test_digests_depend_on_content_alone():
    one, other = {"a": 1, "b": [2, "x"]}, {"b": (2, "x"), "a": 1}
    assert config.digest(one) == config.digest(other)
    assert config.digest(1, 2) == config.digest(*[1, 2]) != config.digest([1, 2])
    assert config.digest("1") != config.digest(1)
    assert len(config.digest()) == 64


def test_a_section_is_its_content():
    assert config.digest(config.Svm()) == config.digest(config.Svm(C=0.001))
    assert config.digest(config.Svm()) != config.digest(config.Svm(C=0.002))
    dumped = config.Svm().model_dump(mode="json")
    assert config.digest(config.Svm()) == config.digest(dumped)


def test_a_digest_is_the_same_in_every_process():
    # sha256 of [{"a":"ü"},[1.5,null]]
    expected = "51ef9ae0c706d95b506060df6c2aabf76410e444c01589b5d199a1a8b1d27cf9"
    code = "from pipeline.config import digest; print(digest({'a': 'ü'}, (1.5, None)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == expected
    assert config.digest({"a": "ü"}, (1.5, None)) == expected
