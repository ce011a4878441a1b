"""The archives of CDC and CMS as an edition. Read files.py first, then archives.py, order_file.py, folder.py."""
