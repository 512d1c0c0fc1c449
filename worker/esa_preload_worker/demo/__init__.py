"""The worker without an account at Alibaba Cloud: a simulated ESA to call, and the whole path in one command."""
