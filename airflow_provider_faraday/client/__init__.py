"""Sends requests to Faraday: with requests in workers, with aiohttp in the triggerer."""
