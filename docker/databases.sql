-- Run once, by PostgreSQL's image, when the database volume is new. MLflow has the database that POSTGRES_DB names;
-- Optuna cannot share it: both keep the version of their tables in a table of one name.
CREATE DATABASE optuna;
