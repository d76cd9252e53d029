"""What is trained, from what and how: settings alone, so that neither torch nor numpy is loaded to read them."""
