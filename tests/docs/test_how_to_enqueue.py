"""The programs of the how-to pages do what their page says: each is run as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from docs.pages import DOCS, blocks, read
from processes import BIN, environment

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

HOW_TO = DOCS / "how-to"
_FILE = re.compile(r"^<!-- file: (\S+) -->$\n(```.*?^```$)", re.MULTILINE | re.DOTALL)

DJANGO = """
import json, sys
from io import StringIO
from pathlib import Path
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["shop"], ESA_PRELOAD_REDIS_URL=sys.argv[1], USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
from django.core.management import call_command
from django.db import connection, transaction
from shop.models import Article
from shop.preloads import SITE_ID, preloads
from shop.publishing import publish
with connection.schema_editor() as editor:
    editor.create_model(Article)
article = Article.objects.create(slug="one")
with transaction.atomic():
    publish(article)
    before = len(preloads.sites())
first = preloads.status("article-one-1").accepted
with transaction.atomic():
    for number in range(3):
        Article.objects.create(slug=f"more-{number}", is_public=True)
    out = StringIO()
    call_command("preload_articles", stdout=out)
preloads.close()
print(json.dumps([before, first, out.getvalue()]))
"""

MODELS = """
from django.db import models

class Article(models.Model):
    slug = models.CharField(max_length=50)
    version = models.IntegerField(default=0)
    is_public = models.BooleanField(default=False)
"""


def write_files(page: str, folder: Path) -> list[Path]:
    """Write each file of a page below *folder*."""
    written: list[Path] = []
    for name, fenced in _FILE.findall(read(HOW_TO / page)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(blocks(f"{fenced}\n")[0].text, encoding="utf-8")
        path.chmod(0o700)
        written.append(path)
    return written


def run(*command: str, cwd: Path, redis_url: str, code: int = 0) -> str:
    """Run a program beside the files of a page, and return what it printed."""
    env = environment(
        ESA_PRELOAD_REDIS_URL=redis_url, PYTHONPATH=str(cwd), PATH=f"{BIN}:{os.environ['PATH']}"
    )
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_the_app_of_fastapi_enqueues_after_its_answer(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """Publishing answers at once, and the article's URL is in the queue under the name that was answered."""
    del redis
    write_files("enqueue-from-fastapi.md", tmp_path)
    program = """
from fastapi.testclient import TestClient
from app import app
with TestClient(app) as http:
    for _ in range(2):
        answer = http.post("/articles/one/publish?version=3")
        print(answer.status_code, answer.json()["preload"])
"""
    out = run(sys.executable, "-c", program, cwd=tmp_path, redis_url=redis_url)
    assert out.splitlines() == ["202 article-one-3"] * 2
    assert _status("article-one-3", tmp_path, redis_url)["accepted"] == 1


def test_the_project_of_django_enqueues_on_commit(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """Nothing is enqueued before the commit; the command sees the rows of its own transaction."""
    del redis
    for path in write_files("enqueue-from-django.md", tmp_path):
        for folder in (path.parent, *path.parent.relative_to(tmp_path).parents):
            (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "shop" / "models.py").write_text(MODELS, encoding="utf-8")
    before, first, said = json.loads(
        run(sys.executable, "-c", DJANGO, redis_url, cwd=tmp_path, redis_url=redis_url)
    )
    assert (before, first) == (0, 1)
    assert said.startswith("4 accepted, 0 rejected: request ")


def test_the_scripts_enqueue_and_resume(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """A release is enqueued, once, also when the script runs again; one bad URL is told apart; an outage is said."""
    del redis
    write_files("enqueue-from-a-script.md", tmp_path)
    (tmp_path / "list").write_text("https://www.example.com/1\nhttps://www.example.com/2\n", encoding="utf-8")
    for _ in range(2):
        out = run("./preload-release", "list", "412", cwd=tmp_path, redis_url=redis_url)
        assert out.endswith("release 412 is enqueued\n")
    assert _status("release-412", tmp_path, redis_url)["accepted"] == 2
    nightly = json.loads(run("./preload-nightly", "list", cwd=tmp_path, redis_url=redis_url))
    assert (nightly["accepted"], nightly["merged"]) == (2, 2)
    (tmp_path / "bad").write_text("https://www.example.com/1\nftp://www.example.com/\n", encoding="utf-8")
    run("./preload-release", "bad", "413", cwd=tmp_path, redis_url=redis_url)
    run("./preload-release", "none", "414", cwd=tmp_path, redis_url=redis_url, code=2)


def test_the_tests_of_an_integration_pass(redis_url: str, tmp_path: Path) -> None:
    """They are run by pytest as they stand on the page, without Redis."""
    del redis_url
    write_files("test-your-integration.md", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    out = run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        cwd=tmp_path,
        redis_url="redis://127.0.0.1:1",
    )
    assert "4 passed" in out


def test_every_program_of_these_pages_is_run() -> None:
    """A block of Python or a script that has no file's name would not be run; there is none."""
    for page in ("enqueue-from-fastapi.md", "enqueue-from-django.md", "test-your-integration.md"):
        text = read(HOW_TO / page)
        assert len(_FILE.findall(text)) == sum(block.language == "python" for block in blocks(text)), page


def _status(request_id: str, cwd: Path, redis_url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        run("esa-preload", "status", request_id, "--json", cwd=cwd, redis_url=redis_url)
    )
    return found
