"""Objects for notebooks and programs: series as lazy arrays, masters, libraries; with short and readable displays."""
