"""The Pictures page in a real browser: a pixel clicked, a file that is none, and every view."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.test_inside_pages import click, plot

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
