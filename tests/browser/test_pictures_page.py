"""The Pictures page in a real browser: a pixel clicked, a file that is none, and every view."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.test_inside_pages import click, plot
from tests.signals import wav
from workbench.data.tones import tone

pytestmark = pytest.mark.browser


def test_a_clicked_pixel_is_looked_from_and_stands_in_the_url(open_page, settle):
    page = open_page("pictures", head="L1H2")
    expect(page.locator(".gtitle").first).to_have_text("L1H2 from pixel 27")
    click(page, "on_picture", 4, 6)
    settle()
    expect(page.locator(".gtitle").first).to_have_text("L1H2 from pixel 52")
    expect(page).to_have_url(re.compile("pixel=52"))
    expect(page.get_by_text("of the attention goes to the class token")).to_be_visible()


def test_a_broken_png_is_a_sentence_and_a_good_one_is_read(open_page, settle):
    page = open_page("pictures", **{"pictures_view": "Classify", "from": "a PNG of your own"})
    box = page.locator('[data-testid="stFileUploader"] input')
    box.set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": b"\x89PNG and so on"})
    expect(page.get_by_test_id("stAlert").first).to_contain_text("is no PNG file")
    assert plot(page, "classes").is_visible()  # of a held-out digit
    pixels = np.full((60, 90, 3), 255, np.uint8)
    pixels[10:50, 40:46] = 0
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    content = {"name": "b.png", "mimeType": "image/png", "buffer": stream.getvalue()}
    box.set_input_files(content)
    settle()
    expect(page.get_by_text("Cut out of 90 by 60 pixels")).to_be_visible()
    assert plot(page, "classes").is_visible()


def test_a_clicked_patch_is_looked_from_and_another_model_has_other_views(open_page, settle):
    page = open_page("pictures", picture_model="shelf-vit", head="L1H3")
    expect(page.locator(".gtitle").first).to_have_text("L1H3 from class")
    click(page, "on_patches", 2, 4)  # row 2 and column 1 of patches of 2 by 2 pixels
    settle()
    expect(page.locator(".gtitle").first).to_have_text("L1H3 from r2 c1")
    expect(page).to_have_url(re.compile(r"position=r2\+c1"))
    expect(page.get_by_text("to the class token; with the patches that makes 1")).to_be_visible()
    page = open_page("pictures", picture_model="shelf-vit", pictures_view="Draw")
    expect(page.locator(".gtitle").first).to_have_text("L3H3 from class")


def test_a_wav_is_heard_and_a_broken_one_is_a_sentence(open_page, settle):
    query = {"picture_model": "shelf-tones", "sound": "a WAV of your own"}
    page = open_page("pictures", pictures_view="Classify", **query)
    box = page.locator('[data-testid="stFileUploader"] input')
    box.set_input_files({"name": "a.wav", "mimeType": "audio/wav", "buffer": b"RIFF and so on"})
    expect(page.get_by_test_id("stAlert").first).to_contain_text("is no WAV file")
    content = wav(tone(220, seconds=0.5))
    box.set_input_files({"name": "b.wav", "mimeType": "audio/wav", "buffer": content})
    settle()
    expect(page.get_by_text("The first 0.32 seconds are heard")).to_be_visible()
    expect(page.get_by_text(re.compile("A3")).first).to_be_attached()
