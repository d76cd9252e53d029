"""One case from its file to its folder of results: names, staging, the record, a summary; and folders of cases."""
